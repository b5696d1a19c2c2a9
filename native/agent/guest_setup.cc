// SPDX-License-Identifier: Apache-2.0
#include "agent/guest_setup.h"

#include <fcntl.h>
#include <linux/random.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace omerta::agent {

namespace {

namespace fs = std::filesystem;

constexpr const char* kModules = "/modules";
constexpr const char* kPorts = "/sys/class/virtio-ports";
constexpr const char* kPortName = "omerta.command";
constexpr int kPatienceMs = 30'000;
constexpr int kPauseMs = 5;

void complain(const std::string& what) {
  std::fprintf(stderr, "omerta-agent: %s: %s\n", what.c_str(), std::strerror(errno));
}

void mount_at(const char* type, const char* where) {
  mkdir(where, 0755);
  if (mount(type, where, type, MS_NOSUID, nullptr) != 0) complain(where);
}

void load_module(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) complain(path);
  if (fd >= 0) close(fd);
}

void load_modules() {
  std::vector<std::string> paths;
  std::error_code none;
  for (const auto& each : fs::directory_iterator(kModules, none))
    if (each.is_regular_file()) paths.push_back(each.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) load_module(path);
}

void bring_loopback_up() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0) complain("lo");
  if (fd >= 0) close(fd);
}

/// `/dev/vport0p1` of the port with the name; empty while there is none.
std::string find_port() {
  std::error_code none;
  for (const auto& each : fs::directory_iterator(kPorts, none)) {
    std::string name;
    std::ifstream(each.path() / "name") >> name;
    if (name == kPortName) return "/dev/" + each.path().filename().string();
  }
  return {};
}

/// A port is hung up until the kernel was told that the host is at its other end.
bool is_connected(int fd) {
  pollfd polled{fd, POLLIN | POLLOUT, 0};
  return poll(&polled, 1, 0) >= 0 && (polled.revents & POLLHUP) == 0;
}

}  // namespace

void set_up_guest() {
  mount_at("proc", "/proc");
  mount_at("sysfs", "/sys");
  mount_at("devtmpfs", "/dev");
  mount_at("devpts", "/dev/pts");
  mkdir("/tmp", 01777);
  chmod("/tmp", 01777);
  load_modules();
  bring_loopback_up();
}

int open_command_port() {
  int fd = -1;
  for (int waited = 0; waited < kPatienceMs; waited += kPauseMs) {
    if (fd < 0)
      if (const auto path = find_port(); !path.empty())
        fd = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && is_connected(fd)) return fd;
    usleep(kPauseMs * 1000);
  }
  errno = ENODEV;
  complain(kPortName);
  return -1;
}

void add_randomness(std::span<const uint8_t> seed) {
  // struct rand_pool_info (random(4)): bits, bytes, and then they.
  std::vector<uint8_t> given(sizeof(rand_pool_info) + seed.size());
  const int sizes[2] = {static_cast<int>(seed.size() * 8), static_cast<int>(seed.size())};
  std::memcpy(given.data(), sizes, sizeof sizes);
  std::memcpy(given.data() + sizeof(rand_pool_info), seed.data(), seed.size());
  const int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, RNDADDENTROPY, given.data()) != 0) complain("/dev/urandom");
  if (fd >= 0) close(fd);
}

}  // namespace omerta::agent
