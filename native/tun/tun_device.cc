// SPDX-License-Identifier: Apache-2.0
#include "tun/tun_device.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

namespace omerta::tun {
namespace {

[[noreturn]] void fail(const std::string& step) {
  throw std::system_error(errno, std::generic_category(), step);
}

class ControlSocket {
 public:
  explicit ControlSocket(int family) : fd_(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) fail("socket");
  }
  ~ControlSocket() { close(fd_); }
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  void request(unsigned long code, void* argument, const std::string& step) const {
    if (ioctl(fd_, code, argument) != 0) fail(step);
  }

 private:
  int fd_;
};

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.c_str(), std::min<size_t>(name.size(), IFNAMSIZ - 1));
  return request;
}

void add_address(const std::string& name, const std::string& text) {
  const size_t slash = text.find('/');
  const std::string address = text.substr(0, slash);
  const bool v6 = address.find(':') != std::string::npos;
  const int length = slash == std::string::npos ? (v6 ? 128 : 32) : std::stoi(text.substr(slash + 1));
  if (v6) {
    const ControlSocket control(AF_INET6);
    ifreq request = request_for(name);
    control.request(SIOCGIFINDEX, &request, "interface index");
    struct {
      in6_addr address;
      uint32_t prefix_length;
      int interface;
    } v6_request{};  // struct in6_ifreq, whose header cannot be had beside netinet/in.h
    if (inet_pton(AF_INET6, address.c_str(), &v6_request.address) != 1) {
      errno = EINVAL;
      fail("address " + text);
    }
    v6_request.prefix_length = static_cast<uint32_t>(length);
    v6_request.interface = request.ifr_ifindex;
    control.request(SIOCSIFADDR, &v6_request, "address " + text);
  } else {
    const ControlSocket control(AF_INET);
    ifreq request = request_for(name);
    auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    in->sin_family = AF_INET;
    if (inet_pton(AF_INET, address.c_str(), &in->sin_addr) != 1) {
      errno = EINVAL;
      fail("address " + text);
    }
    control.request(SIOCSIFADDR, &request, "address " + text);
    in->sin_addr.s_addr = htonl(length == 0 ? 0 : ~uint32_t{0} << (32 - length));
    control.request(SIOCSIFNETMASK, &request, "netmask of " + text);
  }
}

/// As the kernel's WireGuard has it: no link-local address but one that somebody gives it, and nobody asks
/// for routers. Where /proc/sys may not be written it gets one.
void without_link_local_address(const std::string& name) {
  const int fd = open(("/proc/sys/net/ipv6/conf/" + name + "/addr_gen_mode").c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  constexpr char kNone = '1';
  [[maybe_unused]] const ssize_t written = ::write(fd, &kNone, 1);
  close(fd);
}

}  // namespace

TunDevice::TunDevice(const TunSettings& settings)
    : name_(settings.name), mtu_(static_cast<size_t>(settings.mtu)) {
  try {
    for (size_t i = 0; i < settings.queues; i++) {
      const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
      if (fd < 0) fail("open /dev/net/tun");
      queues_.push_back(fd);
      ifreq request = request_for(settings.name);
      request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
      if (settings.queues > 1) request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_MULTI_QUEUE);
      // Without it the first queue would join an interface that somebody else has open.
      if (i == 0) request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_TUN_EXCL);
      if (ioctl(fd, TUNSETIFF, &request) != 0) fail("create interface " + settings.name);
      name_ = request.ifr_name;
      checksum_offload_ = settings.checksum_offload;
      tcp_offload_ = checksum_offload_ && settings.tcp_offload;
      udp_offload_ =
          checksum_offload_ && settings.udp_offload && set_offloads(checksum_offload_, tcp_offload_, true);
      if (!udp_offload_ && !set_offloads(checksum_offload_, tcp_offload_, false))
        fail("offloads of " + settings.name);
    }
    without_link_local_address(name_);
    const ControlSocket control(AF_INET);
    ifreq request = request_for(name_);
    request.ifr_mtu = settings.mtu;
    control.request(SIOCSIFMTU, &request, "mtu of " + name_);
    if (settings.up) {
      request = request_for(name_);
      control.request(SIOCGIFFLAGS, &request, "flags of " + name_);
      request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
      control.request(SIOCSIFFLAGS, &request, "bring up " + name_);
    }
    for (const std::string& address : settings.addresses) add_address(name_, address);
  } catch (...) {
    for (const int fd : queues_) close(fd);
    throw;
  }
}

bool TunDevice::set_offloads(bool checksum, bool tcp, bool udp) const {
  const unsigned flags = (checksum ? TUN_F_CSUM : 0u) | (tcp ? TUN_F_TSO4 | TUN_F_TSO6 : 0u) |
                         (udp ? TUN_F_USO4 | TUN_F_USO6 : 0u);
  // A property of the interface: any queue will do.
  return ioctl(queues_.back(), TUNSETOFFLOAD, flags) == 0;
}

TunDevice::~TunDevice() {
  for (const int fd : queues_) close(fd);
}

}  // namespace omerta::tun
