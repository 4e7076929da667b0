// listen: is a member of NFNLGRP_NFTABLES, and forgets what it reads. `nft monitor` keeps a copy of each element that it
// hears of, some 100 to 200 bytes, which a small machine has not got for long lists.
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NETFILTER = 12, NETLINK = 270, ADD_MEMBERSHIP = 1, NFTABLES = 7 };

int main(void)
{
    struct { uint16_t family, pad; uint32_t pid, groups; } any = { .family = AF_NETLINK };
    int socket_ = socket(AF_NETLINK, SOCK_RAW, NETFILTER), group = NFTABLES;
    static char buffer[1 << 16];
    if (socket_ < 0 || bind(socket_, (struct sockaddr *)&any, sizeof any) < 0
        || setsockopt(socket_, NETLINK, ADD_MEMBERSHIP, &group, sizeof group) < 0)
        return 1;
    for (;;)
        (void)!recv(socket_, buffer, sizeof buffer, 0);
}
