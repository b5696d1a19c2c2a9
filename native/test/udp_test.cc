// SPDX-License-Identifier: Apache-2.0
// Both socket engines: datagrams for several destinations, mixed and of any size, arrive whole, once, and
// in order for each destination, whether the kernel segments or not.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "check.h"
#include "common/bytes.h"
#include "loopback.h"
#include "udp/io_choice.h"
#include "udp/stun.h"

namespace {

using namespace omerta;
using namespace omerta::udp;
using omerta::check::loopback;

SocketOptions options(bool gso) {
  SocketOptions o;
  o.bind = "127.0.0.1";
  o.gso = gso;
  return o;
}

using Datagrams = std::vector<std::vector<uint8_t>>;

/// The engine under test; started on this thread, as a worker does.
IoKind kind = IoKind::mmsg;
struct Started {
  explicit Started(UdpSocket& socket, IoKind which = kind) : io(make_io(which, socket)) {
    CHECK(std::string_view(io->name()) == (which == IoKind::mmsg ? "mmsg" : "io_uring"));
    io->start();
  }
  ~Started() { io->stop(); }
  Started(const Started&) = delete;
  Started& operator=(const Started&) = delete;
  SocketIo* operator->() const { return io.get(); }
  std::unique_ptr<SocketIo> io;
};

/// What arrives until `wanted` datagrams have; waits as a worker does.
Datagrams receive_all(SocketIo& io, size_t wanted) {
  CounterRow counters;
  Datagrams out;
  while (out.size() < wanted && io.wait(500).socket) do {
      for (const Message& message : io.receive(counters))
        for (size_t at = 0; at < message.size; at += message.segment)
          out.emplace_back(message.data + at, message.data + std::min(at + message.segment, message.size));
    } while (io.release());
  CHECK(!io.wait(0).socket);
  CHECK(counters.get(Counter::rx_datagrams) == out.size());
  return out;
}

/// Sends `count` datagrams of sizes by `size_of` to random destinations; returns the system calls it took.
template <class SizeOf>
uint64_t exchange(bool gso, bool gro, size_t count, size_t destinations, SizeOf size_of) {
  UdpSocket sender(options(gso));
  const Started sender_io(sender);
  std::vector<std::unique_ptr<UdpSocket>> receivers;
  std::vector<std::unique_ptr<Started>> receiver_ios;
  for (size_t i = 0; i < destinations; i++) {
    SocketOptions o = options(true);
    o.gro = gro;
    receivers.push_back(std::make_unique<UdpSocket>(o));
    // A ring's buffers are 4 MiB: many destinations are received from the other way.
    receiver_ios.push_back(
        std::make_unique<Started>(*receivers.back(), destinations > 8 ? IoKind::mmsg : kind));
  }
  SendBatch send(sender.gso());
  CounterRow counters;
  std::vector<Datagrams> sent(destinations);
  Datagrams memory;  // lies where the allocator puts it: nothing is back to back by intent
  memory.reserve(count);
  for (size_t i = 0; i < count; i++) {
    const size_t to = randombytes_uniform(static_cast<uint32_t>(destinations));
    std::vector<uint8_t> datagram(size_of());
    randombytes_buf(datagram.data(), datagram.size());
    sent[to].push_back(datagram);
    memory.push_back(std::move(datagram));
    const auto add = [&] {
      const size_t size = memory.back().size();
      return send.append(loopback(receivers[to]->port()), {}, memory.back().data(), size, size, 0) == size;
    };
    if (!add()) {
      sender_io->flush(send, counters);
      CHECK(send.empty() && add());
    }
  }
  sender_io->flush(send, counters);
  CHECK(counters.get(Counter::tx_datagrams) == count);
  CHECK(counters.get(Counter::tx_errors) == 0);
  for (size_t i = 0; i < destinations; i++)
    CHECK(receive_all(*receiver_ios[i]->io, sent[i].size()) == sent[i]);
  return counters.get(Counter::tx_batches);
}

void mixed_destinations_get_their_datagrams_whole_and_in_order() {
  for (const bool gso : {true, false})
    for (const bool gro : {true, false}) {
      exchange(gso, gro, 600, 5, [] { return size_t{200}; });
      exchange(gso, gro, 600, 3, [] { return 1 + randombytes_uniform(1400); });
      exchange(gso, gro, 600, 1, [] { return randombytes_uniform(2) == 0 ? size_t{1300} : size_t{90}; });
    }
}

void more_destinations_than_places_still_keep_their_order() {
  exchange(true, true, 2000, 200, [] { return size_t{64} + 16 * randombytes_uniform(3); });
}

void datagrams_of_one_size_to_few_destinations_take_few_system_calls() {
  const uint64_t gathered = exchange(true, true, 256, 4, [] { return size_t{100}; });
  const uint64_t alone = exchange(false, true, 256, 4, [] { return size_t{100}; });
  CHECK(alone == 4);        // 64 messages a call
  CHECK(gathered < alone);  // one, unless destinations share a place of the batch
}

/// More than a ring has buffers, and more than once: the receive ends for want of buffers and goes on.
void a_receiver_that_falls_behind_gets_everything_that_waits() {
  UdpSocket receiver(options(true));
  UdpSocket sender(options(false));
  const Started io(receiver);
  for (uint32_t round = 0; round < 5; round++) {
    Datagrams sent;
    for (uint32_t i = 0; i < 300; i++) {
      std::vector<uint8_t> datagram(8 + i % 64);
      store(datagram.data(), round);
      store(datagram.data() + 4, i);
      sender.send_one(loopback(receiver.port()), {}, datagram.data(), datagram.size(), 0);
      sent.push_back(std::move(datagram));
    }
    CHECK(receive_all(*io.io, sent.size()) == sent);
  }
}

void messages_tell_where_they_came_from_and_what_they_were_sent_to() {
  SocketOptions any;
  UdpSocket receiver(any);
  UdpSocket sender(options(true));
  const Started io(receiver);
  omerta_address to = loopback(receiver.port());
  to.ip[15] = 77;  // 127.0.0.77
  uint8_t byte = 7;
  sender.send_one(to, {}, &byte, 1, 0);
  CHECK(io->wait(500).socket);
  CounterRow counters;
  const auto messages = io->receive(counters);
  CHECK(messages.size() == 1);
  const omerta_address from = loopback(sender.port());
  CHECK(std::memcmp(&messages[0].from, &from, sizeof from) == 0);
  CHECK(std::memcmp(messages[0].local.ip, to.ip, 16) == 0);
  CHECK(messages[0].local.interface == 1);
  CHECK(messages[0].size == 1 && messages[0].data[0] == 7);
}

void a_source_address_that_is_gone_leaves_the_choice_to_routing() {
  UdpSocket receiver{SocketOptions{}};
  UdpSocket sender{SocketOptions{}};
  const Started io(receiver);
  const Started sender_io(sender);
  omerta_address ip6{};
  ip6.ip[15] = 1;
  ip6.port = __builtin_bswap16(receiver.port());
  for (const omerta_address& to : {loopback(receiver.port()), ip6}) {
    LocalAddress gone;  // 192.0.2.9 or 2001:db8::9, documentation's own
    const bool v4 = to.ip[10] == 0xff;
    std::memcpy(gone.ip,
                v4 ? "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x09" : "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09",
                16);
    std::vector<uint8_t> memory(3 * 500);
    randombytes_buf(memory.data(), memory.size());
    SendBatch send(sender.gso());
    CounterRow counters;
    for (size_t i = 0; i < 3; i++) CHECK(send.append(to, gone, memory.data() + i * 500, 500));
    sender_io->flush(send, counters);
    const Datagrams got = receive_all(*io.io, 3);
    CHECK(got.size() == 3);
    for (size_t i = 0; i < got.size(); i++)
      CHECK(std::memcmp(got[i].data(), memory.data() + i * 500, 500) == 0);
  }
}

/// Several at one time, and again: nothing of a closed engine holds the port.
void a_stopped_engine_leaves_the_socket_to_its_owner() {
  SocketOptions o = options(true);
  for (int i = 0; i < 20; i++) {
    UdpSocket socket(o);
    o.port = socket.port();
    {
      const Started io(socket);
      socket.send_one(loopback(socket.port()), {}, reinterpret_cast<const uint8_t*>("waits"), 5, 0);
    }
    // What the last one did not take, this one gets: the socket went on.
    const uint8_t again = 1;
    socket.send_one(loopback(socket.port()), {}, &again, 1, 0);
    const Started io(socket);
    CHECK(!receive_all(*io.io, 1).empty());
  }
}

/// A full send buffer makes flush wait, not lose.
void a_small_send_buffer_loses_nothing() {
  SocketOptions small = options(true);
  UdpSocket receiver(options(true));
  small.buffer_bytes = 4096;
  UdpSocket sender(small);
  const Started sender_io(sender);
  const Started io(receiver);
  std::vector<uint8_t> memory(64 * 1200);
  SendBatch send(false);
  CounterRow counters;
  for (size_t i = 0; i < 64; i++)
    CHECK(send.append(loopback(receiver.port()), {}, memory.data() + i * 1200, 1200));
  sender_io->flush(send, counters);
  CHECK(receive_all(*io.io, 64).size() == 64);
  CHECK(counters.get(Counter::tx_errors) == 0);
}

/// Loopback copies what was meant to go out zero-copy; that is noticed, and every byte still arrives.
void forwarded_coalesced_messages_arrive_whole_zero_copy_or_not() {
  constexpr size_t kCount = 32;
  constexpr size_t kBytes = 1300;
  UdpSocket generator(options(true));
  UdpSocket relay(options(true));
  UdpSocket sink(options(true));
  const Started generator_io(generator);
  const Started relay_io(relay);
  const Started sink_io(sink);
  CounterRow counters;
  SendBatch generated(generator.gso());
  SendBatch forwarded(relay.gso());
  for (uint32_t round = 0; round < 40; round++) {
    Datagrams sent(kCount, std::vector<uint8_t>(kBytes));
    for (auto& datagram : sent) {
      randombytes_buf(datagram.data(), kBytes);
      CHECK(generated.append(loopback(relay.port()), {}, datagram.data(), kBytes));
    }
    generator_io->flush(generated, counters);
    size_t count = 0;
    CounterRow own;
    while (count < kCount && relay_io->wait(500).socket) do {
        for (const Message& message : relay_io->receive(own))
          for (size_t at = 0; at < message.size; at += message.segment, count++)
            CHECK(forwarded.append(loopback(sink.port()), {}, message.data + at, message.segment));
        if (!forwarded.empty()) relay_io->flush(forwarded, own);
      } while (relay_io->release());
    CHECK(receive_all(*sink_io.io, kCount) == sent);
    CHECK(own.get(Counter::tx_errors) == 0);
    counters.add(Counter::tx_zero_copy, own.get(Counter::tx_zero_copy));
    counters.add(Counter::tx_zero_copy_copied, own.get(Counter::tx_zero_copy_copied));
  }
  // 0: an old kernel, or a low limit of locked memory.
  const uint64_t tried = counters.get(Counter::tx_zero_copy);
  if (kind == IoKind::mmsg)
    CHECK(tried == 0);
  else
    CHECK(tried == counters.get(Counter::tx_zero_copy_copied) && (tried == 0 || tried == 8));
}

void the_choice_names_its_reason() {
  const IoChoice plain = choose_io(IoWanted::mmsg);
  CHECK(plain.kind == IoKind::mmsg && plain.reason.code == "mmsg-asked-for");
  const IoChoice measured = choose_io(IoWanted::automatic);
  if (!measured.refused) {
    CHECK(measured.mmsg->single > 0 && measured.mmsg->bulk > 0);
    CHECK(measured.io_uring->single > 0 && measured.io_uring->bulk > 0);
    CHECK(measured.reason.code == "measured" && measured.reason.number > 0);
  } else {
    CHECK(measured.kind == IoKind::mmsg && !measured.reason.code.empty());
  }
  const IoChoice ring = choose_io(IoWanted::io_uring);
  CHECK(ring.refused != (ring.kind == IoKind::io_uring));
}

void what_a_full_receive_queue_loses_is_counted() {
  SocketOptions small = options(true);
  small.buffer_bytes = 4096;
  UdpSocket receiver(small);
  UdpSocket sender(options(false));
  constexpr uint64_t kCount = 500;
  const uint8_t byte = 1;
  const auto send = [&] { sender.send_one(loopback(receiver.port()), {}, &byte, 1, 0); };
  // Before the ring lends its buffers: those would hold what the queue does not.
  for (uint64_t i = 0; i < kCount; i++) send();
  CHECK(receiver.queues().receive > 0);
  CHECK(receiver.queues().receive_limit == 2 * static_cast<uint32_t>(receiver.receive_buffer_bytes()));
  const Started io(receiver);
  CounterRow counters;
  const auto take_all = [&] {
    while (io->wait(100).socket) do
        io->receive(counters);
      while (io->release());
  };
  take_all();
  receiver.sample_queues(counters);
  CHECK(counters.get(Counter::drop_receive_queue) > 0);
  CHECK(counters.get(Counter::rx_datagrams) + counters.get(Counter::drop_receive_queue) == kCount);
  CHECK(receiver.queues().receive == 0);
}

void what_the_kernel_will_not_send_is_dropped_and_counted_by_reason() {
  UdpSocket sender(options(true));
  UdpSocket receiver(options(true));
  const Started sender_io(sender), receiver_io(receiver);
  std::vector<uint8_t> memory(65520);
  omerta_address broadcast = loopback(9);
  std::memset(broadcast.ip + 12, 255, 4);
  SendBatch send(true);
  CounterRow counters;
  CHECK(send.append(loopback(receiver.port()), {}, memory.data(), 65520));  // IPv4 carries 65507
  CHECK(send.append(broadcast, {}, memory.data(), 100));                    // needs SO_BROADCAST
  CHECK(send.append(loopback(receiver.port()), {}, memory.data(), 65507));
  sender_io->flush(send, counters);
  CHECK(counters.get(Counter::drop_send_too_big) == 1);
  CHECK(counters.get(Counter::drop_send_failed) == 1);
  CHECK(counters.get(Counter::tx_errors) == 2);
  CHECK(receive_all(*receiver_io.io, 1).size() == 1);
}

/// In a process whose seccomp filter answers io_uring_setup with EPERM, as containers' do.
void where_io_uring_is_forbidden_mmsg_is_used_and_the_reason_told() {
  const pid_t child = fork();
  if (child == 0) {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      _exit(2);
    const IoChoice choice = choose_io(IoWanted::io_uring);
    UdpSocket socket(options(true));
    const bool right = choice.refused && choice.kind == IoKind::mmsg && choice.reason.code == "forbidden" &&
                       std::string_view(make_io(IoKind::io_uring, socket)->name()) == "mmsg";
    _exit(right ? 0 : 1);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/// Sends runs of datagrams that lie back to back, of one size but for the last.
void runs_are_sent_whole_whatever_their_length_and_size() {
  for (const bool gso : {true, false})
    for (const size_t segment : {size_t{1}, size_t{100}, size_t{1452}, size_t{9032}, size_t{40000}}) {
      UdpSocket sender(options(gso)), receiver(options(true));
      const Started sender_io(sender), receiver_io(receiver);
      SendBatch send(sender.gso());
      CounterRow counters;
      std::vector<uint8_t> memory(std::min<size_t>(segment * 150, 700000));
      randombytes_buf(memory.data(), memory.size());
      Datagrams sent;
      size_t at = 0;
      while (at < memory.size()) {
        // Runs of 1, 2, … datagrams, with a shorter one at the end of every second.
        const size_t run = sent.size() % 40 + 1;
        const size_t bytes =
            std::min(segment * run - (run % 2 == 0 && segment > 1 ? segment / 2 : 0), memory.size() - at);
        for (size_t from = 0; from < bytes; from += segment)
          sent.emplace_back(memory.data() + at + from, memory.data() + at + std::min(from + segment, bytes));
        size_t added = 0;
        while ((added += send.append(loopback(receiver.port()), {}, memory.data() + at + added, bytes - added,
                                     segment, 0)) < bytes)
          sender_io->flush(send, counters);
        at += bytes;
      }
      sender_io->flush(send, counters);
      CHECK(counters.get(Counter::tx_datagrams) == sent.size());
      CHECK(counters.get(Counter::tx_errors) == 0);
      CHECK(receive_all(*receiver_io.io, sent.size()) == sent);
    }
}

/// Sends `datagrams` of 100 bytes, the traffic class of each by `class_of`; returns the ECN of each on
/// arrival.
template <class ClassOf>
std::vector<uint8_t> ecn_after(const char* bind, bool gso, size_t datagrams, size_t& received,
                               ClassOf class_of) {
  SocketOptions o = options(gso);
  o.bind = bind;
  UdpSocket sender(o), receiver(o);
  const Started sender_io(sender), receiver_io(receiver);
  omerta_address to = loopback(receiver.port());
  if (o.bind == "::1") {
    to = {};
    to.ip[15] = 1;
    to.port = loopback(receiver.port()).port;
  }
  SendBatch send(sender.gso());
  CounterRow counters;
  std::vector<uint8_t> memory(datagrams * 100);
  for (size_t i = 0; i < datagrams; i++) {
    memory[i * 100] = static_cast<uint8_t>(i);
    CHECK(send.append(to, {}, memory.data() + i * 100, 100, 100, class_of(i)) == 100);
  }
  sender_io->flush(send, counters);
  std::vector<uint8_t> out;
  while (out.size() < datagrams && receiver_io->wait(500).socket) do {
      const auto messages = receiver_io->receive(counters);
      received += messages.size();
      for (const Message& message : messages)
        for (size_t at = 0; at < message.size; at += message.segment) {
          CHECK(message.data[at] == out.size());  // in order
          out.push_back(message.ecn);
        }
    } while (receiver_io->release());
  CHECK(counters.get(Counter::tx_errors) == 0);
  return out;
}

void each_datagram_arrives_with_its_own_ecn() {
  for (const char* bind : {"127.0.0.1", "::1"})
    for (const bool gso : {true, false}) {
      size_t messages = 0;
      const auto each =
          ecn_after(bind, gso, 40, messages, [](size_t i) { return static_cast<uint8_t>(i % 4); });
      for (size_t i = 0; i < each.size(); i++) CHECK(each[i] == i % 4);
      CHECK(each.size() == 40 && messages == 40);
      messages = 0;
      // Runs of one kind still share a message; DSCP does not hide the field.
      const auto runs =
          ecn_after(bind, gso, 60, messages, [](size_t i) { return static_cast<uint8_t>(0x88 | i / 20); });
      for (size_t i = 0; i < runs.size(); i++) CHECK(runs[i] == i / 20);
      CHECK(runs.size() == 60 && messages == (gso ? 3 : 60));
    }
}

/// The transaction and the addresses of RFC 5769, sections 2.2 and 2.3.
void a_binding_request_is_answered_with_the_address_it_came_from() {
  const uint8_t request[20] = {0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7,
                               0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae};
  const auto answered = [&](const std::vector<uint8_t>& ip, const std::vector<uint8_t>& attribute) {
    omerta_address from{};
    std::memcpy(from.ip, ip.data(), 16);
    from.port = __builtin_bswap16(32853);
    const StunResponse response(Bytes(request, sizeof request), from);
    std::vector<uint8_t> expected(request, request + sizeof request);
    expected[0] = expected[1] = 1;
    expected[3] = static_cast<uint8_t>(attribute.size());
    expected.insert(expected.end(), attribute.begin(), attribute.end());
    return std::ranges::equal(response.bytes(), expected);
  };
  CHECK(answered({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1},
                 {0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43}));
  CHECK(answered(
      {0x20, 0x01, 0x0d, 0xb8, 0x12, 0x34, 0x56, 0x78, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77},
      {0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa,
       0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9}));
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(where_io_uring_is_forbidden_mmsg_is_used_and_the_reason_told);
  RUN(the_choice_names_its_reason);
  RUN(a_binding_request_is_answered_with_the_address_it_came_from);
  const Reason reason = choose_io(IoWanted::automatic).reason;
  std::printf("%s %.2f %s\n", std::string(reason.code).c_str(), reason.number, reason.detail.c_str());
  const IoChoice ring = choose_io(IoWanted::io_uring);
  if (ring.refused) std::printf("SKIP: io_uring: %s\n", std::string(ring.reason.code).c_str());
  for (const IoKind each : {IoKind::mmsg, IoKind::io_uring}) {
    if (each == IoKind::io_uring && ring.refused) continue;
    kind = each;
    RUN(mixed_destinations_get_their_datagrams_whole_and_in_order);
    RUN(more_destinations_than_places_still_keep_their_order);
    RUN(datagrams_of_one_size_to_few_destinations_take_few_system_calls);
    RUN(a_receiver_that_falls_behind_gets_everything_that_waits);
    RUN(messages_tell_where_they_came_from_and_what_they_were_sent_to);
    RUN(a_source_address_that_is_gone_leaves_the_choice_to_routing);
    RUN(a_stopped_engine_leaves_the_socket_to_its_owner);
    RUN(forwarded_coalesced_messages_arrive_whole_zero_copy_or_not);
    RUN(runs_are_sent_whole_whatever_their_length_and_size);
    RUN(each_datagram_arrives_with_its_own_ecn);
    RUN(what_the_kernel_will_not_send_is_dropped_and_counted_by_reason);
    RUN(what_a_full_receive_queue_loses_is_counted);
    RUN(a_small_send_buffer_loses_nothing);
  }
  return omerta::check::finish();
}
