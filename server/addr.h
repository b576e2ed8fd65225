/* addr.h — "host:port" addresses and their sockets.
 *   struct addr a;  addr_parse(&a, "[::]:8080", &e);
 *   int fd = addr_listen(&a, &e);  addr_of_socket(&a, fd);  addr_text(text, sizeof text, &a);
 * Hosts are numeric IPv4 or IPv6 (in brackets), or names, which are looked up.  Thread: any. */
#pragma once
#include "core/base/err.h"
#include <stddef.h>
#include <sys/socket.h>

struct addr {
    struct sockaddr_storage ss;
    socklen_t len;
};
enum { ADDR_TEXT = 64 }; /* room for any address as text */

/* "127.0.0.1:8080", "[::1]:8080", "localhost:8080", ":8080" (every IPv4 address). */
NODISCARD int addr_parse(struct addr *a, const char *text, struct err *e);
void addr_text(char *out, size_t n, const struct addr *a);
/* A bound, listening, non-blocking socket; "[::]" takes IPv4 too. */
NODISCARD int addr_listen(const struct addr *a, struct err *e);
NODISCARD int addr_of_socket(struct addr *a, int fd,
                             struct err *e); /* after port 0: the real one */
/* Where a client on this machine reaches a listener on a: loopback for "every address". */
struct addr addr_reachable(const struct addr *a);
