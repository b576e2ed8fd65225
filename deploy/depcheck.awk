# Checks who includes whom. Run over every C file and header:  awk -f deploy/depcheck.awk FILE...
# A layer may include itself and what stands behind its name below; tests may include anything.

BEGIN {
    allow["core/base"] = ""
    allow["core/num"] = "core/base"
    allow["core/ad"] = "core/base core/num"
    allow["core/nn"] = "core/base core/num core/ad"
    allow["core/data"] = "core/base core/num"
    allow["core/fmt"] = "core/base core/num core/ad"
    allow["core/ann"] = "core/base core/num"
    allow["core/eval"] = "core/base core/num core/data"
    allow["core/serve"] = "core/base core/num core/ad core/nn core/data core/fmt core/ann"
    allow["models"] = "core/base core/num core/ad core/nn core/data core/fmt core/ann core/eval core/serve"
    allow["server"] = allow["core/serve"] " core/serve"
}

function layer(path) {
    if (match(path, /^core\/[a-z]+/)) return substr(path, RSTART, RLENGTH)
    match(path, /^[^\/]*/)
    return substr(path, RSTART, RLENGTH)
}

function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad = 1 }

FNR == 1 { from = layer(FILENAME) }

/^[ \t]*#[ \t]*include[ \t]*<(faiss|omp\.h)/ && from != "core/ann" && from != "tests" {
    complain("only core/ann includes FAISS")
}

/^[ \t]*#[ \t]*include[ \t]*<oneapi/ && FILENAME != "core/num/mm16.c" && from != "tests" {
    complain("only core/num/mm16.c includes oneDNN")
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    to = layer(part[2])
    if (from == "tests" || to == from) next
    if (!(to in allow)) complain("\"" part[2] "\": write the path from the top of the tree")
    else if (index(" " allow[from] " ", " " to " ") == 0) complain(from " may not include " to " (" part[2] ")")
}

END { exit bad }
