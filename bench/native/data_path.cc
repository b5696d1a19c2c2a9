// SPDX-License-Identifier: Apache-2.0
// What the engine spends on a packet beside the AEAD, from the TUN read to the GSO send and from the GRO
// receive to the TUN write. Two engines with a worker each; once they have a session, their system calls
// are answered from memory (ld --wrap): a read from TUN gives the next packet, what is sent is what the
// other one receives, writes to TUN end here. The workers take turns. Needs root, for two TUN interfaces
// in a network namespace of its own.
//
//   data_path ROUNDS MILLISECONDS     per round and case; prints one line of JSON
//   data_path --count WAKES           instructions instead of time, for callgrind (counted.h): so many
//                                     wake-ups of each case, and of a relay that forwards
//
// Of each wake-up of a worker counts its time less what passed in system calls and in the AEAD; of a round
// the median wake-up; the first round is discarded. One super-packet is 46 packets of 1,420 bytes or 64 of
// 64; a wake-up finds 4 of them, or 16 single packets.
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sodium.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <semaphore>
#include <string>

#include "counted.h"
#include "engine/engine.h"
#include "inner/ip.h"
#include "inner/virtio_net_header.h"
#include "limited_legs.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using Operation = void (crypto::TransportAead::*)(std::span<crypto::AeadJob>);

constexpr size_t kMtu = 1420;
constexpr auto kPatience = 10 * kSecond;

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

[[noreturn]] void fail(const char* step) {
  std::perror(step);
  std::exit(1);
}

// ---- cases ----------------------------------------------------------------------------------------

/// A packet as a TUN device hands it over: header, headers of IP and TCP or UDP, payload.
struct Case {
  const char* name;
  uint8_t protocol;
  size_t size;      ///< of each packet, IP header included
  size_t segments;  ///< in one read
  size_t reads;     ///< in one wake-up
  struct Figures {
    std::vector<double> aead, rest;  ///< ns per packet, a value for each round
  } seal{}, open{};
};

constexpr size_t kTcpHeaders = 20 + 32, kUdpHeaders = 20 + 8;

std::vector<uint8_t> packet_of(const Case& c) {
  const size_t headers = c.protocol == inner::kTcp ? kTcpHeaders : kUdpHeaders;
  const size_t payload = (c.size - headers) * c.segments;
  std::vector<uint8_t> bytes(sizeof(inner::VirtioNetHeader) + headers + payload, 0x5a);
  inner::VirtioNetHeader header{};
  header.flags = inner::kNeedsChecksum;
  header.header_length = static_cast<uint16_t>(headers);
  header.checksum_start = 20;
  header.checksum_offset = c.protocol == inner::kTcp ? 16 : 6;
  if (c.segments > 1) {
    header.gso_type = c.protocol == inner::kTcp ? inner::kGsoTcp4 : inner::kGsoUdp;
    header.gso_size = static_cast<uint16_t>(c.size - headers);
  }
  store(bytes.data(), header);
  uint8_t* ip = bytes.data() + sizeof header;
  const uint8_t fixed[20] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, c.protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2};
  std::memcpy(ip, fixed, sizeof fixed);
  store(ip + 2, htons(static_cast<uint16_t>(headers + payload)));
  store(ip + 10, inner::checksum_finish(inner::checksum_add(ip, 20)));
  uint8_t* transport = ip + 20;
  store(transport, htons(5001));
  store(transport + 2, htons(5002));
  const size_t transport_size = headers - 20 + payload;
  if (c.protocol == inner::kTcp) {
    std::memset(transport + 4, 0, 28);
    transport[12] = 8 << 4;  // words of header
    transport[13] = 0x10;    // ACK
    const uint8_t timestamps[12] = {1, 1, 8, 10};
    std::memcpy(transport + 20, timestamps, sizeof timestamps);
  } else {
    store(transport + 4, htons(static_cast<uint16_t>(transport_size)));
  }
  const inner::IpView view = inner::parse_ip(ip, headers + payload);
  store(transport + header.checksum_offset,
        inner::checksum_fold(inner::pseudo_header_sum(view, c.protocol, transport_size)));
  return bytes;
}

// ---- what answers the system calls ----------------------------------------------------------------

/// One wake-up of a worker.
struct Wake {
  uint64_t began = 0;
  uint64_t outside = 0;  ///< in system calls
  uint64_t aead = 0;
  size_t stamps = 0;  ///< pairs of looks at the clock, which cost as well
  size_t packets = 0;
};

/// A worker's thread and its turns.
struct Side {
  int tun = -1;
  int socket = -1;
  int wakes_by = -1;  ///< the descriptor that is ready in its turn
  std::binary_semaphore turn{0};
  Wake wake;
  std::vector<double> aead, rest;  ///< ns per packet of each wake-up
};

struct Sent {
  size_t segment;
  std::vector<uint8_t> bytes;
};

std::atomic<bool> synthetic{false};  ///< from when on system calls are answered here
std::atomic<bool> running{false};    ///< turns are taken
Side sender, receiver, forwarder;
thread_local Side* side = nullptr;
bool by_instructions = false;  ///< --count
std::string counted_case;      ///< what is counted now; empty: nothing that is reported
uint32_t event_of[1024];       ///< epoll data of each descriptor
uint64_t stamp_cost = 0;
std::vector<uint8_t> tun_packet;
size_t reads_left = 0, reads_in_a_wake = 0;
std::vector<Sent> wire;
size_t wire_sent = 0, wire_taken = 0;
std::atomic<uint64_t> turns{0};
std::counting_semaphore<> finished{0};

/// Time that does not count for the worker, and goes to `sum` instead.
class Excluded {
 public:
  explicit Excluded(uint64_t Wake::*sum) : sum_(sum), counted_(bench::counting) {
    if (counted_) bench::stop_counting();
    began_ = now();
  }
  ~Excluded() {
    side->wake.*sum_ += now() - began_;
    side->wake.stamps++;
    if (counted_) bench::start_counting();
  }
  Excluded(const Excluded&) = delete;
  Excluded& operator=(const Excluded&) = delete;

 private:
  uint64_t Wake::*sum_;
  const bool counted_;
  uint64_t began_ = 0;
};

bool answered_here(int fd) {
  if (!synthetic.load(std::memory_order_acquire)) {
    // Until then every worker shows by its descriptors which one it is.
    for (Side* one : {&sender, &receiver, &forwarder})
      if (fd >= 0 && (fd == one->tun || fd == one->socket)) side = one;
    return false;
  }
  return side != nullptr && (fd == side->tun || fd == side->socket);
}

const char* work_of(const Side* one) {
  return one == &forwarder ? "forward" : one == &sender ? "seal" : "open";
}

void end_turn() {
  Wake& w = side->wake;
  if (w.packets != 0 && !counted_case.empty())
    bench::report((std::string(work_of(side)) + ", " + counted_case).c_str(), w.packets);
  if (w.packets != 0) {
    const uint64_t total = now() - w.began;
    const auto packets = static_cast<double>(w.packets);
    const uint64_t beside = w.outside + w.aead + w.stamps * stamp_cost;
    side->aead.push_back(static_cast<double>(w.aead) / packets);
    side->rest.push_back((static_cast<double>(total) - static_cast<double>(beside)) / packets);
    turns.fetch_add(1, std::memory_order_relaxed);
  }
  w = {};
  if (side == &sender && wire_sent != 0) {
    receiver.turn.release();
  } else if (running.load(std::memory_order_acquire)) {
    (side == &forwarder ? forwarder : sender).turn.release();
  } else {
    finished.release();
  }
}

// ---- frames for a relay ---------------------------------------------------------------------------

constexpr uint32_t kRelayLegs = 64;

/// What a relay finds in its socket in one wake-up.
struct Frames {
  const char* name;
  size_t size;      ///< of each frame
  size_t messages;  ///< in one wake-up
  size_t frames;    ///< in each, coalesced and of one leg
};
const Frames* relayed = nullptr;
uint64_t frame_counter = 0;

/// Frames no relay has seen yet, into `wire`.
void make_frames() {
  wire_taken = wire_sent = 0;
  if (relayed == nullptr) return;
  if (wire.size() < relayed->messages) wire.resize(relayed->messages);
  for (size_t m = 0; m < relayed->messages; m++) {
    Sent& sent = wire[m];
    sent.segment = relayed->size;
    sent.bytes.assign(relayed->size * relayed->frames, 0);
    const uint32_t id = bench_leg_id(static_cast<uint32_t>(m % kRelayLegs));
    __u64 key[2];
    bench_leg_key(id, key);
    for (size_t i = 0; i < relayed->frames; i++) {
      uint8_t* frame = sent.bytes.data() + i * relayed->size;
      frame[0] = OMERTA_FRAME_MAGIC;
      frame[1] = OMERTA_KIND_FORWARD;
      frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
      frame[3] = BENCH_EPOCH;
      omerta_store32(frame + 4, id);
      frame[16] = 4;  // a transport message, its receiver index and counter
      omerta_store32(frame + 20, id);
      omerta_store64(frame + 24, frame_counter++);
      omerta_store64(frame + 8, omerta_frame_tag(key, frame, static_cast<__u32>(relayed->size)));
    }
    wire_sent++;
  }
}

void begin_turn() {
  side->turn.acquire();
  if (side == &sender) {
    reads_left = reads_in_a_wake;
    wire_sent = wire_taken = 0;
  }
  if (side == &forwarder) make_frames();
}

/// The next packet of a stream.
void advance_stream() {
  uint8_t* ip = tun_packet.data() + sizeof(inner::VirtioNetHeader);
  if (ip[9] != inner::kTcp) return;
  const auto payload =
      static_cast<uint32_t>(tun_packet.size() - sizeof(inner::VirtioNetHeader) - kTcpHeaders);
  store(ip + 24, htonl(ntohl(load<uint32_t>(ip + 24)) + payload));
}

size_t bytes_of(const msghdr& header) {
  size_t sum = 0;
  for (size_t i = 0; i < header.msg_iovlen; i++) sum += header.msg_iov[i].iov_len;
  return sum;
}

/// What the kernel of the other end would make of a message: one coalesced datagram.
void take(const msghdr& header) {
  if (wire_sent == wire.size()) wire.emplace_back();
  Sent& sent = wire[wire_sent++];
  sent.bytes.resize(bytes_of(header));
  size_t at = 0;
  for (size_t i = 0; i < header.msg_iovlen; at += header.msg_iov[i].iov_len, i++)
    std::memcpy(sent.bytes.data() + at, header.msg_iov[i].iov_base, header.msg_iov[i].iov_len);
  sent.segment = sent.bytes.size();
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(const_cast<msghdr*>(&header), c))
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT) {
      uint16_t segment = 0;
      std::memcpy(&segment, CMSG_DATA(c), sizeof segment);
      sent.segment = segment;
    }
}

void put(uint8_t*& at, int level, int type, const void* data, size_t size) {
  auto* c = reinterpret_cast<cmsghdr*>(at);
  c->cmsg_level = level;
  c->cmsg_type = type;
  c->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(c), data, size);
  at += CMSG_SPACE(size);
}

/// As the kernel fills a message in for a socket bound to an IPv4 address.
void give(mmsghdr& message, const Sent& sent) {
  msghdr& header = message.msg_hdr;
  std::memcpy(header.msg_iov[0].iov_base, sent.bytes.data(), sent.bytes.size());
  message.msg_len = static_cast<unsigned>(sent.bytes.size());
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_port = htons(51820);
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::memcpy(header.msg_name, &from, sizeof from);
  header.msg_namelen = sizeof from;
  auto* at = static_cast<uint8_t*>(header.msg_control);
  in_pktinfo local{};
  local.ipi_addr.s_addr = local.ipi_spec_dst.s_addr = htonl(INADDR_LOOPBACK);
  local.ipi_ifindex = 1;
  put(at, IPPROTO_IP, IP_PKTINFO, &local, sizeof local);
  const uint8_t traffic_class = 0;
  put(at, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class);
  const int segment = static_cast<int>(sent.segment);
  if (sent.segment < sent.bytes.size()) put(at, IPPROTO_UDP, UDP_GRO, &segment, sizeof segment);
  header.msg_controllen = static_cast<size_t>(at - static_cast<uint8_t*>(header.msg_control));
}

}  // namespace

extern "C" {

int __real_epoll_ctl(int epoll, int operation, int fd, epoll_event* event);
int __wrap_epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  if (operation == EPOLL_CTL_ADD && fd >= 0 && fd < 1024) event_of[fd] = event->data.u32;
  return __real_epoll_ctl(epoll, operation, fd, event);
}

int __real_epoll_wait(int epoll, epoll_event* events, int most, int milliseconds);
int __wrap_epoll_wait(int epoll, epoll_event* events, int most, int milliseconds) {
  if (side == nullptr || !synthetic.load(std::memory_order_acquire))
    return __real_epoll_wait(epoll, events, most, milliseconds);
  bench::stop_counting();
  end_turn();
  begin_turn();
  if (!synthetic.load(std::memory_order_acquire)) return 0;
  events[0] = {EPOLLIN, {.u32 = event_of[side->wakes_by]}};
  side->wake.began = now();
  if (by_instructions) bench::start_counting();
  return 1;
}

ssize_t __real_read(int fd, void* to, size_t size);
ssize_t __wrap_read(int fd, void* to, size_t size) {
  if (!answered_here(fd)) return __real_read(fd, to, size);
  const Excluded here(&Wake::outside);
  if (reads_left == 0) {
    errno = EAGAIN;
    return -1;
  }
  reads_left--;
  std::memcpy(to, tun_packet.data(), tun_packet.size());
  advance_stream();
  return static_cast<ssize_t>(tun_packet.size());
}

ssize_t __real_writev(int fd, const iovec* parts, int count);
ssize_t __wrap_writev(int fd, const iovec* parts, int count) {
  if (!answered_here(fd)) return __real_writev(fd, parts, count);
  const Excluded here(&Wake::outside);
  ssize_t sum = 0;
  for (int i = 0; i < count; i++) sum += static_cast<ssize_t>(parts[i].iov_len);
  return sum;
}

int __real_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!answered_here(fd)) return __real_sendmmsg(fd, messages, count, flags);
  const Excluded here(&Wake::outside);
  if (side != &forwarder)
    for (unsigned i = 0; i < count; i++) take(messages[i].msg_hdr);
  return static_cast<int>(count);
}

int __real_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout);
int __wrap_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!answered_here(fd)) return __real_recvmmsg(fd, messages, count, flags, timeout);
  const Excluded here(&Wake::outside);
  unsigned given = 0;
  while (given < count && wire_taken < wire_sent) {
    const Sent& sent = wire[wire_taken++];
    if (side == &forwarder) side->wake.packets += sent.bytes.size() / sent.segment;
    give(messages[given++], sent);
  }
  if (given == 0) errno = EAGAIN;
  return given == 0 ? -1 : static_cast<int>(given);
}

// omerta::crypto::Aead::run, which every batch goes through.
void real_aead_run(crypto::Aead* aead, std::span<crypto::AeadJob> jobs, Operation operation) __asm__(
    "__real__ZN6omerta6crypto4Aead3runESt4spanINS0_7AeadJobELm18446744073709551615EEMNS0_"
    "13TransportAeadEFvS4_E");
void wrap_aead_run(crypto::Aead* aead, std::span<crypto::AeadJob> jobs, Operation operation) __asm__(
    "__wrap__ZN6omerta6crypto4Aead3runESt4spanINS0_7AeadJobELm18446744073709551615EEMNS0_"
    "13TransportAeadEFvS4_E");
void wrap_aead_run(crypto::Aead* aead, std::span<crypto::AeadJob> jobs, Operation operation) {
  if (side == nullptr) return real_aead_run(aead, jobs, operation);
  const Excluded here(&Wake::aead);
  side->wake.packets += jobs.size();
  real_aead_run(aead, jobs, operation);
}

}  // extern "C"

namespace {

// ---- the two engines ------------------------------------------------------------------------------

void bring_loopback_up() {
  const int control = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request) != 0) fail("lo");
  close(control);
}

EngineSettings settings(uint8_t seed, const char* name, const char* address, bool gcm) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.bind = "127.0.0.1";
  s.max_legs = 16;
  s.max_peers = 16;
  s.io = udp::IoWanted::mmsg;
  s.aes_256_gcm = gcm;
  s.tun.emplace();
  s.tun->name = name;
  s.tun->addresses = {address};
  s.tun->mtu = kMtu;
  return s;
}

session::PeerSettings peer(uint8_t seed, const char* prefix) {
  session::PeerSettings p;
  Key32 key;
  key.fill(seed);
  p.public_key = session::public_key_of(key);
  p.allowed_ips = {*session::Prefix::parse(prefix)};
  return p;
}

uint64_t total(Engine& engine, Counter counter) {
  uint64_t sum = 0;
  for (size_t i = 0; i <= engine.workers(); i++) sum += engine.counters()[i].get(counter);
  return sum;
}

crypto::Suite suite_of(Engine& engine) {
  crypto::Suite suite = crypto::Suite::chacha20_poly1305;
  engine.sessions().for_each([&](session::Peer& p) {
    if (const session::Keypair* keypair = p.sending(); keypair != nullptr) suite = keypair->suite();
  });
  return suite;
}

/// Real packets through the real interfaces until there is a session in the suite wanted.
void connect(Engine& a, Engine& b, crypto::Suite suite) {
  b.set_peers({peer(1, "10.9.0.1/32")});
  session::PeerSettings to_b = peer(2, "10.9.0.2/32");
  to_b.endpoint.emplace();
  to_b.endpoint->remote.ip[10] = to_b.endpoint->remote.ip[11] = 0xff;
  to_b.endpoint->remote.ip[12] = 127;
  to_b.endpoint->remote.ip[15] = 1;
  to_b.endpoint->remote.port = htons(b.port());
  a.set_peers({to_b});
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  to.sin_addr.s_addr = htonl(0x0a090002);
  uint8_t data[100]{};
  const uint64_t end = now() + kPatience;
  while (suite_of(a) != suite || total(b, Counter::tun_tx_packets) < 100) {
    if (now() > end) {
      std::fprintf(stderr, "no session with %s within 10 s\n", crypto::name_of(suite));
      std::exit(1);
    }
    for (int i = 0; i < 10; i++)
      if (sendto(fd, data, sizeof data, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) fail("send");
    usleep(1000);
  }
  close(fd);
  usleep(50'000);  // what is under way arrives
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Wakes of the workers until there were so many more; those of `one` begin.
void take_turns(Side& one, uint64_t wakes) {
  const uint64_t end = turns.load() + wakes;
  running.store(true, std::memory_order_release);
  one.turn.release();
  while (turns.load(std::memory_order_relaxed) < end) usleep(1000);
  running.store(false, std::memory_order_release);
  finished.acquire();
}

void measure(Case& c, uint64_t milliseconds, bool keep) {
  tun_packet = packet_of(c);
  reads_in_a_wake = c.reads;
  for (Side* one : {&sender, &receiver}) {
    one->aead.clear();
    one->rest.clear();
  }
  running.store(true, std::memory_order_release);
  sender.turn.release();
  usleep(static_cast<useconds_t>(milliseconds * 1000));
  running.store(false, std::memory_order_release);
  finished.acquire();
  if (!keep) return;
  for (const auto& [figures, one] : {std::pair{&c.seal, &sender}, std::pair{&c.open, &receiver}}) {
    figures->aead.push_back(median(one->aead));
    figures->rest.push_back(median(one->rest));
  }
}

/// Half the time two looks at the clock take lies outside of what they measure.
void measure_clock() {
  std::vector<double> costs;
  for (int i = 0; i < 1000; i++) {
    const uint64_t began = now();
    for (int k = 0; k < 16; k++) now();
    costs.push_back(static_cast<double>(now() - began) / 17);
  }
  stamp_cost = static_cast<uint64_t>(median(costs));
}

void print(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\":[", name);
  for (size_t i = 0; i < values.size(); i++) std::printf("%s%.1f", i == 0 ? "" : ",", values[i]);
  std::printf("]");
}

void print(const char* name, const Case::Figures& figures) {
  std::printf(",\"%s\":{", name);
  print("aead", figures.aead);
  std::printf(",");
  print("rest", figures.rest);
  std::printf("}");
}

const char* size_text(size_t size) { return size == kMtu ? "1420 B" : "64 B"; }

/// What a relay's worker takes for a frame, receive to send.
void count_forwarding(uint64_t wakes) {
  EngineSettings s = settings(3, "", "", false);
  s.tun.reset();
  s.max_legs = kRelayLegs;
  Engine engine(s);
  forwarder.socket = forwarder.wakes_by = engine.socket()->fd();
  std::vector<omerta_leg> legs;
  for (uint32_t i = 0; i < kRelayLegs; i++) {
    omerta_leg leg = bench::forwarding_leg(i);
    leg.expires_at = 3600 * kSecond;
    for (uint8_t* ip : {leg.source_ip, leg.next_ip}) {
      ip[10] = ip[11] = 0xff;
      ip[12] = 127;
      ip[15] = 1;
    }
    leg.source_port = htons(51820);
    leg.next_port = htons(51821);
    legs.push_back(leg);
  }
  engine.install_legs(legs);
  // The worker shows who it is when something arrives.
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(engine.port());
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (sendto(fd, "", 1, 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) fail("send");
  close(fd);
  usleep(300'000);
  synthetic.store(true, std::memory_order_release);
  finished.acquire();
  for (const size_t size : {size_t{64}, kMtu}) {
    for (const Frames& frames : {Frames{"in bulk", size, 16, 46}, Frames{"single", size, 64, 1}}) {
      relayed = &frames;
      counted_case = std::string(frames.name) + ", " + size_text(size);
      take_turns(forwarder, wakes);
    }
  }
  const uint64_t sent = total(engine, Counter::forwarded_packets), given = frame_counter;
  synthetic.store(false, std::memory_order_release);
  relayed = nullptr;
  forwarder.socket = -1;  // the next engines may be given its number
  counted_case.clear();
  forwarder.turn.release();
  if (sent != given) {
    std::fprintf(stderr, "of %llu frames %llu were forwarded\n", static_cast<unsigned long long>(given),
                 static_cast<unsigned long long>(sent));
    std::exit(1);
  }
}

bool run(crypto::Suite suite, long rounds, uint64_t milliseconds, bool first) {
  const bool gcm = suite == crypto::Suite::aes_256_gcm;
  for (Side* one : {&sender, &receiver}) one->tun = one->socket = -1;
  wire_sent = wire_taken = 0;
  Engine a(settings(1, "omdp0", "10.9.0.1/24", gcm));
  Engine b(settings(2, "omdp1", "10.9.1.1/24", gcm));
  if (!a.aead().of(suite).available) return false;
  sender.tun = sender.wakes_by = a.tun()->queue(0);
  sender.socket = a.socket()->fd();
  receiver.tun = b.tun()->queue(0);
  receiver.socket = receiver.wakes_by = b.socket()->fd();
  connect(a, b, suite);
  std::vector<Case> cases = {{"TCP super-packets", inner::kTcp, kMtu, 46, 4},
                             {"UDP super-packets", inner::kUdp, kMtu, 46, 4},
                             {"UDP super-packets", inner::kUdp, 64, 64, 4},
                             {"single UDP packets", inner::kUdp, kMtu, 1, 16},
                             {"single UDP packets", inner::kUdp, 64, 1, 16}};
  synthetic.store(true, std::memory_order_release);
  // Both workers come to their turns; the first at the latest when it looks at its timers.
  finished.acquire();
  finished.acquire();
  const uint64_t before = total(a, Counter::transport_sent), opened = total(b, Counter::tun_tx_packets);
  for (Case& c : cases) {
    if (!by_instructions) break;
    tun_packet = packet_of(c);
    reads_in_a_wake = c.reads;
    counted_case = std::string(c.name) + ", " + size_text(c.size);
    take_turns(sender, 2 * milliseconds);  // both sides' wake-ups
  }
  for (long round = 0; round <= rounds && !by_instructions; round++)
    for (size_t i = 0; i < cases.size(); i++)
      measure(cases[round % 2 == 0 ? i : cases.size() - 1 - i], milliseconds, round > 0);
  const uint64_t sealed = total(a, Counter::transport_sent) - before;
  if (sealed == 0 || total(b, Counter::tun_tx_packets) - opened != sealed) {
    std::fprintf(stderr, "of %llu packets %llu came through\n", static_cast<unsigned long long>(sealed),
                 static_cast<unsigned long long>(total(b, Counter::tun_tx_packets) - opened));
    std::exit(1);
  }
  synthetic.store(false, std::memory_order_release);
  sender.turn.release();
  receiver.turn.release();
  for (const Case& c : cases) {
    if (by_instructions) break;
    std::printf("%s{\"suite\":\"%s\",\"library\":\"%s\",\"packets\":\"%s\",\"size\":%zu", first ? "" : ",",
                crypto::name_of(suite), a.aead().of(suite).library.c_str(), c.name, c.size);
    print("seal", c.seal);
    print("open", c.open);
    std::printf("}");
    first = false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || sodium_init() < 0) {
    std::fputs("data_path ROUNDS MILLISECONDS | --count WAKES\n", stderr);
    return 2;
  }
  const long rounds = std::atol(argv[1]);
  const auto milliseconds = static_cast<uint64_t>(std::atol(argv[2]));
  if (unshare(CLONE_NEWNET) != 0) fail("a network namespace of its own");
  bring_loopback_up();
  if (std::strcmp(argv[1], "--count") == 0) {
    by_instructions = true;
    count_forwarding(milliseconds);
    return run(crypto::Suite::chacha20_poly1305, 0, milliseconds, true) ? 0 : 1;
  }
  measure_clock();
  std::printf("[");
  const bool any = run(crypto::Suite::chacha20_poly1305, rounds, milliseconds, true);
  run(crypto::Suite::aes_256_gcm, rounds, milliseconds, !any);
  std::printf("]\n");
}
