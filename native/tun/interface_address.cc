// SPDX-License-Identifier: Apache-2.0
#include "tun/interface_address.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/step_failed.h"

namespace omerta::tun {
namespace {

struct Request {
  nlmsghdr header{};
  ifaddrmsg message{};
  uint8_t attributes[2 * RTA_LENGTH(16)]{};
};

struct Answer {
  nlmsghdr header{};
  nlmsgerr error{};
};

void add_attribute(Request& request, uint16_t type, const void* value, uint16_t size) {
  rtattr attribute{static_cast<uint16_t>(RTA_LENGTH(size)), type};
  uint8_t* at = reinterpret_cast<uint8_t*>(&request) + request.header.nlmsg_len;
  std::memcpy(at, &attribute, sizeof attribute);
  std::memcpy(at + RTA_LENGTH(0), value, size);
  request.header.nlmsg_len += RTA_ALIGN(RTA_LENGTH(size));
}

/// The errno the kernel answers with, 0 = done.
int ask(const Network& network, const Request& request) {
  const int fd = network.open_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (fd < 0) return errno;
  Answer answer;
  int error = 0;
  if (send(fd, &request, request.header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
    error = errno;
  else if (answer.header.nlmsg_type == NLMSG_ERROR)
    error = -answer.error.error;
  close(fd);
  return error;
}

/// 0 and errno: there is no such interface.
unsigned index_of(const Network& network, const std::string& interface) {
  const int fd = network.open_socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) return 0;
  ifreq request{};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  const bool found = ioctl(fd, SIOCGIFINDEX, &request) == 0;
  const int error = errno;
  close(fd);
  errno = error;
  return found ? static_cast<unsigned>(request.ifr_ifindex) : 0;
}

}  // namespace

bool put_address(const Network& network, const std::string& interface, const std::string& address) {
  const size_t slash = address.find('/');
  const std::string text = address.substr(0, slash);
  const bool v6 = text.find(':') != std::string::npos;
  const int family = v6 ? AF_INET6 : AF_INET;
  const uint16_t size = v6 ? 16 : 4;
  uint8_t bytes[16];
  if (inet_pton(family, text.c_str(), bytes) != 1) throw StepFailed(EINVAL, "tun-address", address);
  Request request;
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.message);
  request.header.nlmsg_type = RTM_NEWADDR;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
  request.message.ifa_family = static_cast<uint8_t>(family);
  request.message.ifa_prefixlen =
      static_cast<uint8_t>(slash == std::string::npos ? size * 8 : std::stoi(address.substr(slash + 1)));
  request.message.ifa_index = index_of(network, interface);
  if (request.message.ifa_index == 0) throw StepFailed(errno, "tun-name", interface);
  add_attribute(request, IFA_LOCAL, bytes, size);
  add_attribute(request, IFA_ADDRESS, bytes, size);
  const int error = ask(network, request);
  if (error == 0) return true;
  // Switched off by sysctl; no IPv6 in the kernel; none on an interface with an MTU below 1280.
  const bool refused =
      error == EACCES || error == EOPNOTSUPP || error == EAFNOSUPPORT || error == ENODEV || error == EINVAL;
  if (v6 && refused) return false;
  throw StepFailed(error, "tun-address", address);
}

}  // namespace omerta::tun
