/*
 * A network of its own with one way out: a pair of virtual Ethernet devices, one end inside, the other at the host.
 *
 * Addresses are single ones (/32, /128): nothing inside is on a common link with anything but the gateway, an address
 * that every host's end has. All of it ends with the last process of the network namespace.
 */
#ifndef REMORA_NETWORK_H
#define REMORA_NETWORK_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ORDER_BYTES_MAX = 1024 };

static const char GATEWAY_6[] = "fe80::1";

/* An address of either family; `bits` is the length of the network that it stands for. */
struct address {
    uint8_t family, bits;
    uint8_t bytes[sizeof(struct in6_addr)];
};

static size_t address_size(const struct address *address) { return address->family == AF_INET6 ? 16 : 4; }

static int read_address(const char *text, struct address *address) {
    address->family = strchr(text, ':') ? AF_INET6 : AF_INET;
    address->bits = (uint8_t)(8 * address_size(address));
    errno = EINVAL;
    return inet_pton(address->family, text, address->bytes) == 1 ? 0 : -1;
}

/* One order to the kernel being written. */
struct order {
    union {
        struct nlmsghdr head;
        uint8_t bytes[ORDER_BYTES_MAX];
    };
};

static void begin_order(struct order *order, uint16_t type, uint16_t flags, const void *about, size_t size) {
    memset(order, 0, sizeof *order);
    order->head.nlmsg_type = type;
    order->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    memcpy(NLMSG_DATA(&order->head), about, size);
    order->head.nlmsg_len = NLMSG_LENGTH(NLMSG_ALIGN(size));
}

static struct rtattr *put_attribute(struct order *order, uint16_t type, const void *value, size_t size) {
    struct rtattr *attribute = (struct rtattr *)(void *)(order->bytes + NLMSG_ALIGN(order->head.nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    if (size)
        memcpy(RTA_DATA(attribute), value, size);
    order->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(order->head.nlmsg_len) + RTA_ALIGN(attribute->rta_len));
    return attribute;
}

/* New kernels (seen: 7.2) refuse settings of a device in a nest that is not marked as one. */
static struct rtattr *begin_nest(struct order *order, uint16_t type) {
    return put_attribute(order, type | NLA_F_NESTED, NULL, 0);
}

static void end_nest(struct order *order, struct rtattr *nest) {
    nest->rta_len = (uint16_t)(order->bytes + order->head.nlmsg_len - (uint8_t *)nest);
}

static int open_netlink(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); }

/* Send an order and wait for its answer; -1 with errno if it was refused. */
static int perform(int netlink, const struct order *order) {
    union {
        struct nlmsghdr head;
        uint8_t bytes[4096];
    } answer;
    if (send(netlink, order->bytes, order->head.nlmsg_len, 0) < 0 || recv(netlink, answer.bytes, sizeof answer, 0) < 0)
        return -1;
    errno = -((struct nlmsgerr *)NLMSG_DATA(&answer.head))->error;
    return errno ? -1 : 0;
}

/* Make the pair: `name` where `netlink` is at home, eth0 in the namespace `inside`. */
static int make_pair(int netlink, const char *name, int inside) {
    struct order order;
    struct ifinfomsg about = {.ifi_family = AF_UNSPEC};
    uint32_t namespace = (uint32_t)inside;
    begin_order(&order, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &about, sizeof about);
    put_attribute(&order, IFLA_IFNAME, name, strlen(name) + 1);
    struct rtattr *link = begin_nest(&order, IFLA_LINKINFO);
    put_attribute(&order, IFLA_INFO_KIND, "veth", 4);
    struct rtattr *data = begin_nest(&order, IFLA_INFO_DATA), *peer = begin_nest(&order, VETH_INFO_PEER);
    order.head.nlmsg_len += (uint32_t)NLMSG_ALIGN(sizeof about);
    put_attribute(&order, IFLA_IFNAME, "eth0", 5);
    put_attribute(&order, IFLA_NET_NS_FD, &namespace, sizeof namespace);
    end_nest(&order, peer);
    end_nest(&order, data);
    end_nest(&order, link);
    return perform(netlink, &order);
}

/* The number of a device where `netlink` is at home; 0 if there is none. */
static int device_number(int netlink, const char *name) {
    struct order order;
    union {
        struct nlmsghdr head;
        uint8_t bytes[16384];
    } answer;
    struct ifinfomsg about = {.ifi_family = AF_UNSPEC};
    begin_order(&order, RTM_GETLINK, 0, &about, sizeof about);
    order.head.nlmsg_flags = NLM_F_REQUEST;
    put_attribute(&order, IFLA_IFNAME, name, strlen(name) + 1);
    if (send(netlink, order.bytes, order.head.nlmsg_len, 0) < 0 || recv(netlink, answer.bytes, sizeof answer, 0) < 0)
        return 0;
    return answer.head.nlmsg_type == RTM_NEWLINK ? ((struct ifinfomsg *)NLMSG_DATA(&answer.head))->ifi_index : 0;
}

static int set_up_device(int netlink, int device) {
    struct order order;
    struct ifinfomsg about = {.ifi_family = AF_UNSPEC, .ifi_index = device, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin_order(&order, RTM_NEWLINK, 0, &about, sizeof about);
    return perform(netlink, &order);
}

/* Let what arrives at this device be forwarded, whatever other devices do. */
static int set_forwarding(int netlink, int device) {
    struct order order;
    struct ifinfomsg about = {.ifi_family = AF_UNSPEC, .ifi_index = device};
    uint32_t on = 1;
    begin_order(&order, RTM_SETLINK, 0, &about, sizeof about);
    struct rtattr *families = begin_nest(&order, IFLA_AF_SPEC), *family = begin_nest(&order, AF_INET),
                  *settings = begin_nest(&order, IFLA_INET_CONF);
    put_attribute(&order, IPV4_DEVCONF_FORWARDING, &on, sizeof on);
    end_nest(&order, settings);
    end_nest(&order, family);
    end_nest(&order, families);
    return perform(netlink, &order);
}

/* Have the kernel make no link-local address of IPv6: what an end has is given to it. Kernels without IPv6 refuse. */
static void set_no_address(int netlink, int device) {
    struct order order;
    struct ifinfomsg about = {.ifi_family = AF_UNSPEC, .ifi_index = device};
    uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    begin_order(&order, RTM_SETLINK, 0, &about, sizeof about);
    struct rtattr *families = begin_nest(&order, IFLA_AF_SPEC), *family = begin_nest(&order, AF_INET6);
    put_attribute(&order, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
    end_nest(&order, family);
    end_nest(&order, families);
    (void)perform(netlink, &order);
}

/* The same for IPv6, which netlink cannot say. Where the machine forwards everything, there may be no such switch. */
static void set_forwarding_6(const char *name) {
    char path[96];
    snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/force_forwarding", name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return;
    (void)!write(file, "1", 1);
    close(file);
}

static int add_address(int netlink, int device, const struct address *address) {
    struct order order;
    struct ifaddrmsg about = {.ifa_family = address->family, .ifa_prefixlen = address->bits, .ifa_index = (uint32_t)device};
    if (address->family == AF_INET6)
        about.ifa_flags = IFA_F_NODAD; /* nobody else is on the link: it can be used at once */
    begin_order(&order, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &about, sizeof about);
    put_attribute(&order, IFA_LOCAL, address->bytes, address_size(address));
    put_attribute(&order, IFA_ADDRESS, address->bytes, address_size(address));
    return perform(netlink, &order);
}

/* A route to one address through a device; or, with a gateway, the default route. */
static int add_route(int netlink, int device, const struct address *target, const struct address *gateway) {
    struct order order;
    struct rtmsg about = {.rtm_family = (target ? target : gateway)->family, .rtm_dst_len = target ? target->bits : 0,
                          .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNICAST,
                          .rtm_scope = gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK};
    begin_order(&order, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &about, sizeof about);
    if (target)
        put_attribute(&order, RTA_DST, target->bytes, address_size(target));
    if (gateway)
        put_attribute(&order, RTA_GATEWAY, gateway->bytes, address_size(gateway));
    put_attribute(&order, RTA_OIF, &device, sizeof device);
    return perform(netlink, &order);
}

/* One family's addresses: the environment's, and that of the host's end. */
struct ends {
    struct address own, gateway;
};

static int configure_outside(int netlink, const char *name, const struct ends *ends, int count) {
    int device = device_number(netlink, name);
    if (device <= 0)
        return -1;
    set_no_address(netlink, device);
    if (set_up_device(netlink, device) < 0 || set_forwarding(netlink, device) < 0)
        return -1;
    for (int i = 0; i < count; i++)
        if (add_address(netlink, device, &ends[i].gateway) < 0 || add_route(netlink, device, &ends[i].own, NULL) < 0)
            return -1;
    return 0;
}

static int configure_inside(const struct ends *ends, int count) {
    int netlink = open_netlink(), device, result = -1;
    if (netlink < 0)
        return -1;
    device = device_number(netlink, "eth0");
    if (device > 0) {
        set_no_address(netlink, device);
        result = set_up_device(netlink, device_number(netlink, "lo")) < 0 || set_up_device(netlink, device) < 0 ? -1 : 0;
    }
    for (int i = 0; i < count && !result; i++)
        result = add_address(netlink, device, &ends[i].own) < 0 || add_route(netlink, device, &ends[i].gateway, NULL) < 0 ||
                         add_route(netlink, device, NULL, &ends[i].gateway) < 0
                     ? -1
                     : 0;
    close(netlink);
    return result;
}

/* Whatever is on the link itself (clouds keep their metadata there) is not to be reached, though all else is. */
static int close_link_local(void) {
    struct order order;
    struct rtmsg about = {.rtm_family = AF_INET, .rtm_dst_len = 16, .rtm_table = RT_TABLE_MAIN,
                          .rtm_protocol = RTPROT_STATIC, .rtm_type = RTN_UNREACHABLE, .rtm_scope = RT_SCOPE_UNIVERSE};
    struct in_addr link_local = {.s_addr = htonl(0xa9fe0000)};
    int netlink = open_netlink(), result;
    begin_order(&order, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &about, sizeof about);
    put_attribute(&order, RTA_DST, &link_local, sizeof link_local);
    result = netlink < 0 ? -1 : perform(netlink, &order);
    close(netlink);
    return result;
}

/*
 * Enter the network namespace `network`, or a new one if that is NULL, and connect it to the one we leave by the device
 * `name` there. `own_6` is "-" if the machine has no IPv6 to offer.
 */
static int enter_network(const char *network, const char *name, const char *own, const char *way_out, const char *own_6) {
    struct ends ends[2];
    int netlink = open_netlink(), count = strcmp(own_6, "-") ? 2 : 1, inside;
    int outside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (netlink < 0 || outside < 0 || read_address(own, &ends[0].own) < 0 || read_address(way_out, &ends[0].gateway) < 0)
        return -1;
    if (count == 2 && (read_address(own_6, &ends[1].own) < 0 || read_address(GATEWAY_6, &ends[1].gateway) < 0))
        return -1;
    int there = network ? open(network, O_RDONLY | O_CLOEXEC) : -1;
    if ((network ? setns(there, CLONE_NEWNET) : unshare(CLONE_NEWNET)) < 0 || (inside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) < 0)
        return -1;
    if (make_pair(netlink, name, inside) < 0 || configure_outside(netlink, name, ends, count) < 0)
        return -1;
    if (count == 2) { /* the files of /proc/sys/net are those of whoever opens them */
        if (setns(outside, CLONE_NEWNET) < 0)
            return -1;
        set_forwarding_6(name);
        if (setns(inside, CLONE_NEWNET) < 0)
            return -1;
    }
    if (configure_inside(ends, count) < 0)
        return -1;
    if (there >= 0)
        close(there);
    close(outside);
    close(inside);
    close(netlink);
    return 0;
}

#endif
