#include "server/addr.h"
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BACKLOG = 4096 }; /* the kernel cuts it to net.core.somaxconn */

/* Splits at the last colon; brackets of IPv6 fall away. */
static int split(char host[256], char port[16], const char *text, struct err *e)
{
    const char *colon = strrchr(text, ':');
    const char *from = text, *to = colon;
    if (colon && text[0] == '[' && colon > text + 1 && colon[-1] == ']') {
        from++;
        to--;
    } else if (colon && memchr(text, ':', (size_t)(colon - text))) {
        return err_set(e, ERR_CONFIG, "address '%.80s': write IPv6 as [address]:port", text);
    }
    if (!colon || !colon[1] || strlen(colon + 1) > 5 || to - from > 255)
        return err_set(e, ERR_CONFIG,
                       "address '%.80s': expected host:port, e.g. 127.0.0.1:8080", text);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return 0;
}

int addr_parse(struct addr *a, const char *text, struct err *e)
{
    char host[256] = "", port[16] = "";
    TRY(split(host, port, text, e));
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
                              .ai_family = host[0] ? AF_UNSPEC : AF_INET,
                              .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host[0] ? host : NULL, port, &hints, &found);
    if (rc != 0) return err_set(e, ERR_CONFIG, "address '%.80s': %s", text, gai_strerror(rc));
    memcpy(&a->ss, found->ai_addr, found->ai_addrlen);
    a->len = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

void addr_text(char *out, size_t n, const struct addr *a)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)&a->ss, a->len, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(out, n, "?");
        return;
    }
    snprintf(out, n, a->ss.ss_family == AF_INET6 ? "[%.48s]:%.5s" : "%.48s:%.5s", host, port);
}

static int prepare(int fd, const struct addr *a)
{
    int on = 1, off = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0) return -1;
    if (a->ss.ss_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)&a->ss, a->len) < 0) return -1;
    return listen(fd, BACKLOG);
}

int addr_listen(const struct addr *a, struct err *e)
{
    char text[ADDR_TEXT];
    addr_text(text, sizeof text, a);
    int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return err_sys(e, ERR_IO, "socket for %s", text);
    if (prepare(fd, a) < 0) {
        err_sys(e, ERR_IO, "cannot listen on %s", text);
        close(fd);
        return ERR_IO;
    }
    return fd;
}

int addr_of_socket(struct addr *a, int fd, struct err *e)
{
    a->len = sizeof a->ss;
    if (getsockname(fd, (struct sockaddr *)&a->ss, &a->len) < 0)
        return err_sys(e, ERR_IO, "getsockname");
    return 0;
}

struct addr addr_reachable(const struct addr *a)
{
    struct addr r = *a;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&r.ss;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&r.ss;
    if (r.ss.ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY))
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (r.ss.ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr))
        v6->sin6_addr = in6addr_loopback;
    return r;
}
