#include "server/probe.h"
#include "server/addr.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* "http://host[:port][/path]" */
static int split_url(char host[280], char path[512], const char *url, struct err *e)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return err_set(e, ERR_USAGE, "%.100s: expected http://host:port/path", url);
    url += sizeof scheme - 1;
    size_t n = strcspn(url, "/");
    if (n == 0 || n > 255 || strlen(url + n) > 500)
        return err_set(e, ERR_USAGE, "%.100s: expected http://host:port/path", url);
    bool has_port = n && memchr(url, ':', n) && url[n - 1] != ']';
    snprintf(host, 280, "%.*s%s", (int)n, url, has_port ? "" : ":80");
    snprintf(path, 512, "%s", url[n] ? url + n : "/");
    return 0;
}

static int status_line(int fd, const char *host, const char *path, struct err *e)
{
    char text[1024], line[64];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        return err_sys(e, ERR_IO, "asking %s", host);
    size_t have = 0;
    while (have < 12) {
        ssize_t got = recv(fd, line + have, sizeof line - 1 - have, 0);
        if (got < 0) return err_sys(e, ERR_IO, "no answer from %s", host);
        if (got == 0) return err_set(e, ERR_IO, "%s: the answer ended early", host);
        have += (size_t)got;
    }
    line[have] = '\0';
    if (strncmp(line, "HTTP/1.", 7) != 0)
        return err_set(e, ERR_IO, "%s does not speak HTTP", host);
    int status = atoi(line + 9);
    if (status != 200)
        return err_set(e, ERR_NOT_READY, "http://%s%s answers %d", host, path, status);
    return 0;
}

int probe_ready(const char *url, int timeout_s, struct err *e)
{
    char host[280], path[512];
    struct addr a;
    struct timeval t = { .tv_sec = timeout_s };
    TRY(split_url(host, path, url, e));
    TRY(addr_parse(&a, host, e));
    int fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_sys(e, ERR_IO, "socket");
    int rc = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) < 0 ||
        connect(fd, (struct sockaddr *)&a.ss, a.len) < 0)
        rc = err_sys(e, ERR_IO, "cannot reach %s", host);
    if (rc == 0) rc = status_line(fd, host, path, e);
    close(fd);
    return rc;
}
