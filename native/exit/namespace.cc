// SPDX-License-Identifier: Apache-2.0
// omerta-namespace: a private network namespace for whoever may not make one in Node.js, which has threads
// (user_namespaces(7)). A program of its own, so that nothing of the daemon's memory is in it.
//
//   omerta-namespace make            makes a user and a network namespace, then serves
//   omerta-namespace join            enters those behind descriptors 4 and 5, then serves
//   omerta-namespace exec USER NET RESOLVER HANGUP -- CMD…   becomes CMD in there, without rights over it;
//                                                            HANGUP: whether SIGHUP ends it, `ends` or
//                                                            `ignored`
//   omerta-namespace admin USER NET -- CMD…                  becomes CMD in there, with CAP_NET_ADMIN
//
// What serves answers requests on descriptor 3 (exit/channel.h), and ends when nobody holds its other end.
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "exit/channel.h"
#include "tun/network.h"

namespace {

using namespace omerta::exit;

constexpr int kChannel = 3;
constexpr int kUser = 4;
constexpr int kNetwork = 5;

/// As a shell has it: what could not be started.
constexpr int kNotFound = 127;
constexpr int kNotStarted = 126;
constexpr int kNotEntered = 125;

struct Failure {
  const char* step;
  int error;
};

[[noreturn]] void fail(const char* step) { throw Failure{step, errno}; }

bool write_file(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  close(fd);
  errno = error;
  return written;
}

/// Whoever runs this stays who they are in there: programs find their own files, and own nothing else.
void map_self(uid_t user, gid_t group) {
  const std::string users = std::to_string(user), groups = std::to_string(group);
  if (!write_file("/proc/self/setgroups", "deny")) fail("setgroups");
  if (!write_file("/proc/self/uid_map", users + ' ' + users + " 1")) fail("uid_map");
  if (!write_file("/proc/self/gid_map", groups + ' ' + groups + " 1")) fail("gid_map");
}

void bring_loopback_up() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("loopback");
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  const bool done = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  close(fd);
  if (!done) fail("loopback");
}

void make() {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (unshare(CLONE_NEWUSER) != 0) fail("user-namespace");
  map_self(user, group);
  if (unshare(CLONE_NEWNET) != 0) fail("network-namespace");
  bring_loopback_up();
  // Where one of these cannot be set, there is a little more or less; nothing of it is needed.
  write_file("/proc/sys/net/ipv4/ping_group_range", std::to_string(group) + ' ' + std::to_string(group));
  write_file("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1");
}

void enter(int user, int network) {
  if (setns(user, CLONE_NEWUSER) != 0) fail("user-namespace");
  if (setns(network, CLONE_NEWNET) != 0) fail("network-namespace");
}

/// Binds as it was asked. @returns false and errno.
bool bind_as(int fd, const Request& request) {
  const int on = 1;
  const bool v6 = request.family == AF_INET6;
  if (request.transparent != 0) {
    // A datagram says where it was for, and by a socket of both families each does so in its own way.
    if (setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on, sizeof on) != 0 ||
        setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_RECVORIGDSTADDR : IP_RECVORIGDSTADDR, &on,
                   sizeof on) != 0)
      return false;
  }
  // Of datagrams a second socket at one port would take those of the first: only answers as of others need
  // that.
  const bool may_share = (request.type & 0xf) == SOCK_STREAM || request.transparent != 0;
  if (may_share && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return false;
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(request.port);
  std::memcpy(&ipv6.sin6_addr, request.address, sizeof ipv6.sin6_addr);
  sockaddr_in ipv4{};
  ipv4.sin_family = AF_INET;
  ipv4.sin_port = htons(request.port);
  std::memcpy(&ipv4.sin_addr, request.address, sizeof ipv4.sin_addr);
  // A raw socket is of one family anyway, and takes no such option.
  if (v6 && (request.type & 0xf) != SOCK_RAW && setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0)
    return false;
  const int bound = v6 ? bind(fd, reinterpret_cast<const sockaddr*>(&ipv6), sizeof ipv6)
                       : bind(fd, reinterpret_cast<const sockaddr*>(&ipv4), sizeof ipv4);
  return bound == 0 && ((request.type & 0xf) != SOCK_STREAM || listen(fd, SOMAXCONN) == 0);
}

int open_wanted(const omerta::tun::Network& here, const Request& request) {
  if (request.wanted == Wanted::tun) return here.open_tun();
  const int fd = here.open_socket(request.family, request.type, request.protocol);
  if (fd < 0 || request.bound == 0 || bind_as(fd, request)) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

void serve() {
  const omerta::tun::Network here;
  Request request;
  for (;;) {
    const ssize_t got = recv(kChannel, &request, sizeof request, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof request)) return;
    const int fd = open_wanted(here, request);
    const Answer answer{request.number, fd < 0 ? errno : 0, {}};
    send_answer(kChannel, answer, fd < 0 ? std::vector<int>{} : std::vector<int>{fd});
    if (fd >= 0) close(fd);
  }
}

int serve_after(void (*begin)()) {
  // Ctrl-C is for whoever it serves.
  for (const int each : {SIGINT, SIGHUP, SIGQUIT}) signal(each, SIG_IGN);
  Answer answer;
  try {
    begin();
    const int user = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    const int network = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (user < 0 || network < 0) fail("namespaces");
    send_answer(kChannel, answer, {user, network});
    close(user);
    close(network);
  } catch (const Failure& failure) {
    answer.error = failure.error;
    std::strncpy(answer.step, failure.step, sizeof answer.step - 1);
    send_answer(kChannel, answer, {});
    return 1;
  }
  serve();
  return 0;
}

bool is_folder(const char* path) {
  struct stat found {};
  return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/// Names are asked of `resolver` and of nobody by a socket of the file system, which leads out of the
/// namespace: what else resolves names for programs is hidden, for this program and those it starts.
void ask_names_of(const std::string& resolver) {
  if (unshare(CLONE_NEWNS) != 0) fail("mount-namespace");
  if (mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) fail("mount-namespace");
  char resolved[PATH_MAX];
  const bool has_file = realpath("/etc/resolv.conf", resolved) != nullptr;
  for (const char* folder : {"/run/systemd/resolve", "/run/nscd", "/run/avahi-daemon"})
    if (is_folder(folder) && mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755") != 0)
      fail("resolver");
  // Without a file libc asks 127.0.0.1, which is the resolver.
  if (!has_file) return;
  char path[] = "/tmp/omerta-resolv-XXXXXX";
  const int fd = mkstemp(path);
  if (fd < 0) fail("resolver");
  const std::string text = "nameserver " + resolver + '\n';
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  fchmod(fd, 0644);
  close(fd);
  struct stat present {};
  if (stat(resolved, &present) != 0) {  // it was in one of these folders
    const int own = open(resolved, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (own >= 0) close(own);
  }
  const bool done = written && mount(path, resolved, nullptr, MS_BIND, nullptr) == 0;
  const int error = errno;
  unlink(path);
  errno = error;
  if (!done) fail("resolver");
}

/// Programs with capabilities of their files, such as ping, may open raw sockets in there, and change
/// nothing.
void keep_few_capabilities() {
  for (unsigned long each = 0; prctl(PR_CAPBSET_READ, each, 0, 0, 0) >= 0; each++)
    if (each != CAP_NET_RAW && each != CAP_NET_BIND_SERVICE && prctl(PR_CAPBSET_DROP, each, 0, 0, 0) != 0)
      fail("capabilities");
}

/// The program started next keeps CAP_NET_ADMIN, whoever it runs as.
void pass_net_admin_on() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) fail("capabilities");
  data[0].inheritable |= 1U << CAP_NET_ADMIN;
  if (syscall(SYS_capset, &header, data) != 0) fail("capabilities");
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0) != 0) fail("capabilities");
}

int open_namespace(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("namespaces");
  return fd;
}

/// Whether a folder of PATH has a file of this name. execvp(3) tells a folder it may not look into from a
/// program that is nowhere only by what it came upon last.
bool is_in_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string folders = path == nullptr ? "/bin:/usr/bin" : path;
  folders += ':';
  for (size_t begin = 0, end = 0; (end = folders.find(':', begin)) != std::string::npos; begin = end + 1) {
    const std::string folder = folders.substr(begin, end - begin);
    const std::string file = (folder.empty() ? "." : folder) + '/' + name;
    if (access(file.c_str(), F_OK) == 0 && !is_folder(file.c_str())) return true;
  }
  return false;
}

int not_started(const std::string& name, int error) {
  const bool is_absent = name.find('/') == std::string::npos ? !is_in_path(name) : error == ENOENT;
  std::fprintf(stderr, "omerta: %s: %s\n", name.c_str(), is_absent ? "No such file" : std::strerror(error));
  return is_absent ? kNotFound : kNotStarted;
}

int run(int count, char** words) {
  const std::string mode = words[1];
  const int command = mode == "exec" ? 7 : 5;
  if (count <= command || std::strcmp(words[command - 1], "--") != 0) {
    std::fprintf(stderr, "omerta-namespace: a command is missing\n");
    return kNotEntered;
  }
  try {
    enter(open_namespace(words[2]), open_namespace(words[3]));
    if (mode == "exec") {
      ask_names_of(words[4]);
      keep_few_capabilities();
      // Node.js gives every signal its default action back, its own and those of what it starts.
      if (std::strcmp(words[5], "ignored") == 0) signal(SIGHUP, SIG_IGN);
    } else {
      pass_net_admin_on();
    }
  } catch (const Failure& failure) {
    std::fprintf(stderr, "omerta: %s: %s\n", failure.step, std::strerror(failure.error));
    return kNotEntered;
  }
  execvp(words[command], words + command);
  return not_started(words[command], errno);
}

}  // namespace

int main(int count, char** words) {
  const std::string mode = count > 1 ? words[1] : "";
  if (mode == "make") return serve_after(make);
  if (mode == "join") return serve_after([] { enter(kUser, kNetwork); });
  if (mode == "exec" || mode == "admin") return run(count, words);
  std::fprintf(stderr, "omerta-namespace: it is started by omerta\n");
  return kNotEntered;
}
