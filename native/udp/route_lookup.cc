// SPDX-License-Identifier: Apache-2.0
#include "udp/route_lookup.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "common/bytes.h"

namespace omerta::udp {
namespace {

bool is_v4(const uint8_t* ip) { return omerta_load64(ip) == 0 && load<uint32_t>(ip + 8) == 0xffff0000; }

struct Request {
  nlmsghdr header{};
  rtmsg route{};
  uint8_t attributes[128]{};

  void add(unsigned short type, const void* data, size_t size) {
    auto* at = reinterpret_cast<rtattr*>(reinterpret_cast<uint8_t*>(this) + header.nlmsg_len);
    at->rta_type = type;
    at->rta_len = static_cast<unsigned short>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(at), data, size);
    header.nlmsg_len += static_cast<uint32_t>(RTA_SPACE(size));
  }
};

}  // namespace

RouteLookup::RouteLookup() : fd_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "netlink");
  // The kernel answers within the call; should it ever not, nobody waits for good.
  const timeval patience{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

RouteLookup::~RouteLookup() { close(fd_); }

uint32_t RouteLookup::interface_to(const uint8_t (&to)[16], const uint8_t (&from)[16], uint32_t fwmark) {
  const bool v4 = is_v4(to);
  const size_t skipped = v4 ? 12 : 0;
  const size_t size = 16 - skipped;
  Request request;
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  request.header.nlmsg_type = RTM_GETROUTE;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.header.nlmsg_seq = ++sequence_;
  request.route.rtm_family = v4 ? AF_INET : AF_INET6;
  request.route.rtm_dst_len = static_cast<unsigned char>(size * 8);
  request.add(RTA_DST, to + skipped, size);
  if ((omerta_load64(from) | omerta_load64(from + 8)) != 0) {
    request.route.rtm_src_len = request.route.rtm_dst_len;
    request.add(RTA_SRC, from + skipped, size);
  }
  if (fwmark != 0) request.add(RTA_MARK, &fwmark, sizeof fwmark);
  if (::send(fd_, &request, request.header.nlmsg_len, 0) < 0) return 0;
  alignas(nlmsghdr) uint8_t answer[4096];
  for (;;) {
    const ssize_t got = recv(fd_, answer, sizeof answer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < static_cast<ssize_t>(sizeof(nlmsghdr))) return 0;
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
    if (header->nlmsg_seq != sequence_) continue;  // of an earlier question that was given up
    if (header->nlmsg_type != RTM_NEWROUTE || !NLMSG_OK(header, static_cast<uint32_t>(got))) return 0;
    const auto* at = RTM_RTA(static_cast<rtmsg*>(NLMSG_DATA(header)));
    auto left = static_cast<int>(RTM_PAYLOAD(header));
    for (; RTA_OK(at, left); at = RTA_NEXT(at, left))
      if (at->rta_type == RTA_OIF) return load<uint32_t>(static_cast<const uint8_t*>(RTA_DATA(at)));
    return 0;
  }
}

}  // namespace omerta::udp
