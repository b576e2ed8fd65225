-- wrk script: posts the lines of the file $BODIES, one after the other, and prints one row of figures.
local requests = {}
local at = 0

function init(args)
    local headers = { ["Content-Type"] = "application/json" }
    for line in io.lines(os.getenv("BODIES")) do
        requests[#requests + 1] = wrk.format("POST", "/v1/recommend", headers, line)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

-- rps, p50 ms, p99 ms, max ms, requests, replies that were not 2xx, connections that failed
function done(summary, latency)
    local e = summary.errors
    print(string.format("ROW %.0f %.3f %.3f %.3f %d %d %d", summary.requests / summary.duration * 1e6,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3, summary.requests, e.status,
        e.connect + e.read + e.write + e.timeout))
end
