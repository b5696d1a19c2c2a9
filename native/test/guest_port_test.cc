// SPDX-License-Identifier: Apache-2.0
// A virtual machine's device at its socket: frames in any pieces, batches, a guest that does not read,
// garbage, another connection, and what the socket counted held against what became of each frame.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "check.h"
#include "common/step_failed.h"
#include "guest/guest_port.h"
#include "guest_frames.h"

using namespace omerta;
using namespace omerta::guest;
using namespace omerta::test;

namespace {

struct Folder {
  Folder() {
    char name[] = "/tmp/omerta-guest-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string socket() const { return path + "/vm"; }
  std::string path;
};

/// What QEMU is to the socket.
class Device {
 public:
  explicit Device(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    connected = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Device() { close(fd_); }
  Device(const Device&) = delete;

  static Frame with_length(const Frame& frame) {
    Frame out(4);
    put_word(&out[0], frame.size() >> 16);
    put_word(&out[2], frame.size() & 0xffff);
    out.insert(out.end(), frame.begin(), frame.end());
    return out;
  }
  void send(const Frame& bytes) const {
    CHECK(::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  void send_frame(const Frame& frame) const { send(with_length(frame)); }
  /// All of them in one call: so many small ones have no room in the socket.
  void send_frames(const Frame& frame, size_t count) const {
    Frame all;
    for (const Frame one = with_length(frame); count != 0; count--)
      all.insert(all.end(), one.begin(), one.end());
    send(all);
  }
  void end_sending() const { shutdown(fd_, SHUT_WR); }
  /// false: its end has come.
  bool is_open() const {
    uint8_t byte;
    return recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
  }
  std::vector<Frame> frames() {
    uint8_t some[65536];
    for (ssize_t got; (got = recv(fd_, some, sizeof some, 0)) > 0;)
      read_.insert(read_.end(), some, some + got);
    std::vector<Frame> all;
    size_t at = 0;
    while (at + 4 <= read_.size() && at + 4 + double_word(&read_[at]) <= read_.size()) {
      const size_t length = double_word(&read_[at]);
      all.emplace_back(read_.begin() + static_cast<ptrdiff_t>(at + 4),
                       read_.begin() + static_cast<ptrdiff_t>(at + 4 + length));
      at += 4 + length;
    }
    read_.erase(read_.begin(), read_.begin() + static_cast<ptrdiff_t>(at));
    return all;
  }
  bool connected;

 private:
  int fd_;
  Frame read_;
};

struct Machine {
  explicit Machine(const Folder& folder, std::optional<uint32_t> uid = std::nullopt)
      : socket(std::make_shared<GuestSocket>(folder.socket(), uid)), port(socket, guest_link(), counters) {}

  /// As a worker does: while the descriptor is readable, all there is.
  std::vector<Frame> receive() {
    std::vector<Frame> packets;
    pollfd ready{port.descriptor(), POLLIN, 0};
    for (int turns = 0; turns < 1000 && poll(&ready, 1, 0) > 0; turns++)
      for (;;) {
        const auto received = port.receive();
        if (received.empty()) break;
        for (const inner::Received& each : received) packets.emplace_back(each.data, each.data + each.size);
      }
    CHECK(poll(&ready, 1, 0) == 0);  // it does not go round without end
    return packets;
  }
  /// false: it was not taken.
  bool send(const Frame& packet) { return port.send_one(packet.data(), packet.size()); }
  uint64_t of(Counter counter) const { return counters.get(counter); }
  /// What became of frames, all kinds.
  uint64_t judged() const {
    uint64_t sum = 0;
    for (size_t i = static_cast<size_t>(Counter::guest_passed);
         i <= static_cast<size_t>(Counter::guest_noise); i++)
      sum += of(static_cast<Counter>(i));
    for (size_t i = static_cast<size_t>(Counter::drop_guest_malformed);
         i <= static_cast<size_t>(Counter::drop_guest_multicast); i++)
      sum += of(static_cast<Counter>(i));
    return sum;
  }

  CounterRow counters;
  std::shared_ptr<GuestSocket> socket;
  GuestPort port;
};

Frame packet(size_t payload = 10) { return ipv4_packet(kGuest4, kMember4, 17, udp(1, 2, Frame(payload, 7))); }
Frame frame(size_t payload = 10) { return ethernet(kGatewayMac, kTypeIpv4, packet(payload)); }
Frame incoming(size_t payload = 10) {
  return ipv4_packet(kMember4, kGuest4, 17, udp(2, 1, Frame(payload, 9)));
}

void frames_come_in_any_pieces() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  Frame stream;
  for (size_t i = 0; i < 40; i++) {
    const Frame one = Device::with_length(frame(i));
    stream.insert(stream.end(), one.begin(), one.end());
  }
  std::vector<Frame> got;
  for (size_t at = 0; at < stream.size(); at += 7) {
    device.send({stream.begin() + static_cast<ptrdiff_t>(at),
                 stream.begin() + static_cast<ptrdiff_t>(std::min(at + 7, stream.size()))});
    for (Frame& each : machine.receive()) got.push_back(std::move(each));
  }
  CHECK(got.size() == 40);
  for (size_t i = 0; i < got.size(); i++) CHECK(got[i] == packet(i));
  const SocketCounts counts = machine.socket->counts();
  CHECK(counts.frames_read == 40 && counts.bytes_read == stream.size() && counts.connected);
  CHECK(machine.of(Counter::guest_passed) == 40 && machine.judged() == counts.frames_read);
}

void many_come_in_one_batch_and_none_is_left_behind() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  device.send_frames(frame(), 500);
  pollfd ready{machine.port.descriptor(), POLLIN, 0};
  CHECK(poll(&ready, 1, 0) == 1);
  // A worker with much to do stops asking before the end.
  CHECK(machine.port.receive().size() == 64);
  CHECK(poll(&ready, 1, 0) == 1);
  CHECK(machine.receive().size() == 436);
  CHECK(machine.socket->counts().frames_read == 500);
}

void what_it_asks_the_gateway_is_answered_at_once() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  device.send_frame(ethernet({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kTypeArp, arp(1, kGuest4, kGatewayIpv4)));
  CHECK(machine.receive().empty());
  const std::vector<Frame> answers = device.frames();
  CHECK(answers.size() == 1 && word(&answers[0][12]) == kTypeArp);
  CHECK(machine.of(Counter::guest_answered) == 1 && machine.socket->counts().frames_written == 1);
}

void packets_of_the_mesh_get_a_header() {
  const Folder folder;
  Machine machine(folder);
  CHECK(!machine.send(incoming()));  // nobody is connected
  Device device(folder.socket());
  machine.receive();
  CHECK(machine.send(incoming(1)) && machine.send(incoming(1300)));
  const Frame six = ipv6_packet(kMember6, kGuest6, 17, udp(2, 1, {}));
  CHECK(machine.send(six));
  CHECK(machine.send(ipv4_packet(kGuest4, kMember4, 17, udp(2, 1, {}))));  // taken, and dropped: for another
  const std::vector<Frame> frames = device.frames();
  CHECK(frames.size() == 3 && frames[1] == ethernet(kGuestMac, kTypeIpv4, incoming(1300), kGatewayMac));
  CHECK(frames[2] == ethernet(kGuestMac, kTypeIpv6, six, kGatewayMac));
  CHECK(machine.of(Counter::drop_guest_not_its_own) == 1);
  const SocketCounts counts = machine.socket->counts();
  CHECK(counts.frames_written == 3 &&
        counts.bytes_written == frames[0].size() + frames[1].size() + frames[2].size() + 12);
}

void super_packets_are_refused() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  machine.receive();
  Frame one = incoming();
  inner::VirtioNetHeader header{};
  header.gso_type = inner::kGsoTcp4;
  const iovec parts[2] = {{&header, sizeof header}, {one.data(), one.size()}};
  const inner::Gathered gathered = parts;
  const inner::Port::Taken taken = machine.port.send({&gathered, 1});
  CHECK(taken.count == 0 && taken.stop == inner::Port::Stop::refused);
}

void who_does_not_read_loses_packets_and_nothing_else() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  machine.receive();
  size_t taken = 0;
  while (taken < 100'000 && machine.send(incoming(1300))) taken++;
  CHECK(taken > 100 && taken < 100'000);
  CHECK(!machine.send(incoming(1300)));
  device.send_frame(frame());
  pollfd ready{machine.port.descriptor(), POLLIN, 0};
  CHECK(poll(&ready, 1, 0) == 1);
  CHECK(machine.port.receive().size() == 1);  // it is heard all the same
  // What waits arrives once it reads, whole and in its order.
  std::vector<Frame> got;
  for (int i = 0; i < 1000 && got.size() < taken; i++) {
    for (Frame& each : device.frames()) got.push_back(std::move(each));
    while (!machine.port.receive().empty()) continue;
  }
  CHECK(got.size() == taken);
  CHECK(std::ranges::all_of(got, [](const Frame& each) {
    return each == ethernet(kGuestMac, kTypeIpv4, incoming(1300), kGatewayMac);
  }));
  CHECK(machine.send(incoming()) && machine.receive().empty());
  CHECK(device.frames().size() == 1 && machine.socket->counts().frames_written == taken + 1);
}

/// The most the process has had in memory so far, in KiB. Sanitizers keep what was freed.
long most_memory() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 0;
#else
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
#endif
}

void who_asks_without_end_and_reads_nothing_makes_nothing_grow() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  machine.receive();
  const Frame asks = ethernet({0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, kTypeArp, arp(1, kGuest4, kGatewayIpv4));
  const long before = most_memory();
  for (int i = 0; i < 300; i++) {
    device.send_frames(asks, 1000);
    for (int turn = 0; turn < 4; turn++) CHECK(machine.port.receive().empty());
  }
  CHECK(machine.of(Counter::guest_answered) == 300'000);
  CHECK(machine.socket->counts().frames_written < 100'000);  // the others found no room
  CHECK(most_memory() - before < 8192);
  CHECK(!device.frames().empty());
}

void a_length_no_frame_has_ends_the_connection() {
  const Folder folder;
  Machine machine(folder);
  for (const Frame& length : {Frame{0, 0, 0, 0}, Frame{0, 1, 0, 15}, Frame{0xff, 0xff, 0xff, 0xff}}) {
    Device device(folder.socket());
    device.send_frame(frame());
    device.send(length);
    CHECK(machine.receive().size() == 1 && !device.is_open() && !machine.socket->counts().connected);
  }
  CHECK(machine.socket->counts().bad_lengths == 3);
  Device longest(folder.socket());
  longest.send_frame(Frame(1));
  machine.receive();
  CHECK(longest.is_open() && machine.of(Counter::drop_guest_malformed) == 1);
}

void another_connection_waits_for_the_end_of_the_first() {
  const Folder folder;
  Machine machine(folder);
  auto first = std::make_unique<Device>(folder.socket());
  first->send_frame(frame(1));
  CHECK(machine.receive().size() == 1);
  Device second(folder.socket());
  second.send_frame(frame(2));
  CHECK(second.connected && machine.receive().empty() && machine.socket->counts().connections == 1);
  const Frame begun = Device::with_length(frame(3));
  first->send({begun.begin(), begun.begin() + 20});
  first.reset();
  const std::vector<Frame> got = machine.receive();
  CHECK(got.size() == 1 && got[0] == packet(2) && machine.socket->counts().connections == 2);
}

void another_user_is_refused() {
  const Folder folder;
  Machine machine(folder, getuid() + 1);
  Device device(folder.socket());
  CHECK(device.connected && machine.receive().empty() && !device.is_open());
  CHECK(machine.socket->counts().refused == 1 && machine.socket->counts().connections == 0);
  const Folder other;
  Machine mine(other, getuid());
  Device own(other.socket());
  own.send_frame(frame());
  CHECK(mine.receive().size() == 1);
}

void a_flood_of_what_is_dropped_lets_others_have_their_turn() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  machine.receive();
  const Frame spoofed = ethernet(kGatewayMac, kTypeIpv4, packet(), kGatewayMac);
  device.send_frames(spoofed, 1000);
  CHECK(machine.receive().empty() && machine.of(Counter::drop_guest_spoofed_mac) == 1000);
  CHECK(machine.judged() == machine.socket->counts().frames_read);
}

void names_are_told_from_another_thread() {
  const Folder folder;
  Machine machine(folder);
  Device device(folder.socket());
  machine.receive();
  // Told as often as it likes, while packets come: the last is what counts, and nothing is left ringing.
  std::thread other([&machine] {
    for (int i = 0; i < 200; i++) machine.port.set_names({}, {});
    machine.port.set_names({kMember4}, {kMember6});
  });
  for (int i = 0; i < 50; i++) {
    device.send_frame(frame());
    while (!machine.port.receive().empty()) continue;
    device.frames();
  }
  other.join();
  CHECK(machine.receive().empty());
  device.frames();
  device.send_frame(ethernet({0x33, 0x33, 0, 0, 0, 2}, kTypeIpv6,
                             icmpv6_packet(kLinkLocal6, {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
                                           {133, 0, 0, 0, 0, 0, 0, 0})));
  CHECK(machine.receive().empty());
  const std::vector<Frame> told = device.frames();
  CHECK(told.size() == 1 && told[0].at(54) == 134 && told[0].size() == 110);  // with a resolver
}

void another_port_takes_the_connection_over() {
  const Folder folder;
  CounterRow counters;
  auto machine = std::make_unique<Machine>(folder);
  Device device(folder.socket());
  const Frame whole = Device::with_length(frame(5));
  device.send({whole.begin(), whole.begin() + 30});
  CHECK(machine->receive().empty());
  const std::shared_ptr<GuestSocket> socket = machine->socket;
  machine.reset();
  Link link = guest_link();
  link.ipv4 = {kGuest4, kMember4};
  GuestPort next(socket, link, counters);
  device.send({whole.begin() + 30, whole.end()});
  const auto received = next.receive();
  CHECK(received.size() == 1 && Frame(received[0].data, received[0].data + received[0].size) == packet(5));
  CHECK(socket->counts().frames_read == 1 && counters.get(Counter::guest_passed) == 1);
}

/// 0: it could be made.
int error_of(const std::string& path) {
  try {
    const GuestSocket socket(path, std::nullopt);
    return 0;
  } catch (const StepFailed& failure) {
    return failure.code().value();
  }
}

void its_file_is_nobody_elses() {
  const Folder folder;
  {
    const GuestSocket socket(folder.socket(), std::nullopt);
    struct stat file {};
    CHECK(stat(folder.socket().c_str(), &file) == 0 && (file.st_mode & 0777) == 0600);
    CHECK(error_of(folder.socket()) == EADDRINUSE);
  }
  CHECK(!std::filesystem::exists(folder.socket()));
  const int left = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder.socket();
  std::copy(path.begin(), path.end(), address.sun_path);
  CHECK(bind(left, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  close(left);
  CHECK(error_of(path) == 0);  // an earlier process left it
  close(open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  CHECK(error_of(path) == EADDRINUSE && std::filesystem::exists(path));  // no socket
  CHECK(error_of(folder.path + "/" + std::string(120, 'x')) == ENAMETOOLONG);
  CHECK(error_of(folder.path + "/none/vm") == ENOENT);
}

}  // namespace

int main() {
  RUN(frames_come_in_any_pieces);
  RUN(many_come_in_one_batch_and_none_is_left_behind);
  RUN(what_it_asks_the_gateway_is_answered_at_once);
  RUN(packets_of_the_mesh_get_a_header);
  RUN(super_packets_are_refused);
  RUN(who_does_not_read_loses_packets_and_nothing_else);
  RUN(who_asks_without_end_and_reads_nothing_makes_nothing_grow);
  RUN(a_length_no_frame_has_ends_the_connection);
  RUN(another_connection_waits_for_the_end_of_the_first);
  RUN(another_user_is_refused);
  RUN(a_flood_of_what_is_dropped_lets_others_have_their_turn);
  RUN(names_are_told_from_another_thread);
  RUN(another_port_takes_the_connection_over);
  RUN(its_file_is_nobody_elses);
  return check::finish();
}
