// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the stream a virtual machine's network device writes, in any pieces, and the frames in it.
// What the gateway passes on or answers is read a second time.
//
// input: pieces u8, then frames, each shape u8 · size u16 · bytes
//   shape bit 0: from the guest's station, to the gateway's
//   shape bit 1: lengths and checksums agree with the packet
//   shape bit 2: from the guest's own IP address
//   shape bit 3: no frame: the bytes go into the stream as they are
//   shape bit 4: other resolvers are told before it
#include "fuzz/fuzz_input.h"
#include "fuzz/plain_checksum.h"
#include "guest/frame_reader.h"
#include "guest/gateway.h"

using namespace omerta;
using namespace omerta::guest;
using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

constexpr int kMostFrames = 24;
constexpr Mac kGuestMac{0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr Ipv4 kOwn4{100, 64, 1, 2};
constexpr Ipv6 kOwn6{0xfd, 0x6f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
constexpr size_t kMtu = 1400;
using Frame = std::vector<uint8_t>;

void set_word(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

Link link() {
  Link out;
  out.guest = kGuestMac;
  out.ipv4 = {kOwn4};
  out.ipv6 = {kOwn6};
  out.mtu = kMtu;
  return out;
}

void repair(Frame& frame, uint8_t shape) {
  if ((shape & 1) != 0 && frame.size() >= kEthernetHeader) {
    std::copy(kGuestMac.begin(), kGuestMac.end(), frame.begin() + 6);
    if ((frame[0] & 1) == 0) std::copy(kGatewayMac.begin(), kGatewayMac.end(), frame.begin());
  }
  const bool v4 = frame.size() >= 34 && word(&frame[12]) == kTypeIpv4;
  const bool v6 = frame.size() >= 54 && word(&frame[12]) == kTypeIpv6;
  if (!v4 && !v6) return;
  uint8_t* ip = &frame[kEthernetHeader];
  const size_t size = frame.size() - kEthernetHeader;
  if ((shape & 4) != 0 && v4) std::copy(kOwn4.begin(), kOwn4.end(), ip + 12);
  if ((shape & 4) != 0 && v6) std::copy(kOwn6.begin(), kOwn6.end(), ip + 8);
  if ((shape & 2) == 0) return;
  ip[0] = static_cast<uint8_t>(v4 ? 0x40 | (ip[0] & 15) : 0x60);
  set_word(ip + (v4 ? 2 : 4), v4 ? size : size - 40);
  const size_t header = v4 ? size_t{4} * (ip[0] & 15) : 40;
  if (header < 20 || header > size) return;
  if (v4) {
    set_word(ip + 10, 0);
    set_word(ip + 10, 0xffff - fuzz::plain_sum(ip, header));
  } else if (ip[6] == 58 && size >= 44) {
    set_word(ip + 42, 0);
    set_word(ip + 42, 0xffff - fuzz::plain_transport_sum(ip, 40, size, 58));
  }
}

/// The frames of a stream, read plainly; nothing follows a length no frame has.
std::vector<Frame> frames_of(const Frame& stream) {
  std::vector<Frame> all;
  for (size_t at = 0; stream.size() - at >= 4;) {
    const size_t length = size_t{word(&stream[at])} << 16 | word(&stream[at + 2]);
    if (length == 0 || length > kMaxFrame || stream.size() - at - 4 < length) break;
    all.emplace_back(stream.begin() + static_cast<ptrdiff_t>(at + 4),
                     stream.begin() + static_cast<ptrdiff_t>(at + 4 + length));
    at += 4 + length;
  }
  return all;
}

/// What leaves is a whole packet of the guest's own, for one place that is not the gateway.
void check_passed(const Frame& frame, std::span<const uint8_t> packet) {
  require(equals(&frame[6], kGuestMac) && equals(frame.data(), kGatewayMac));
  require(packet.size() <= kMtu && packet.size() + kEthernetHeader <= frame.size());
  require(std::equal(packet.begin(), packet.end(), frame.begin() + kEthernetHeader));
  const bool v4 = word(&frame[12]) == kTypeIpv4;
  require(v4 || word(&frame[12]) == kTypeIpv6);
  require(packet[0] >> 4 == (v4 ? 4 : 6) && packet.size() >= (v4 ? 20 : 40));
  require(packet.size() == (v4 ? word(&packet[2]) : size_t{40} + word(&packet[4])));
  require(v4 ? equals(&packet[12], kOwn4) : equals(&packet[8], kOwn6));
  const uint8_t first = packet[v4 ? 16 : 24];
  require(v4 ? first != 0 && first != 127 && first < 224
             : first != 0xff && (first != 0xfe || packet[25] >> 6 != 2));
  require(v4 ? !equals(&packet[16], kGatewayIpv4) : !equals(&packet[24], kGatewayIpv6));
  if (v4) require(fuzz::plain_sum(packet.data(), size_t{4} * (packet[0] & 15)) == 0xffff);
}

/// An answer is for the guest alone, sound, and of a size that does not grow without end.
void check_answer(const Frame& frame, Bytes answer) {
  require(answer.size() >= 42 && answer.size() <= frame.size() + 512);
  require(equals(answer.data(), kGuestMac) && equals(&answer[6], kGatewayMac));
  const uint8_t* ip = &answer[kEthernetHeader];
  const size_t size = answer.size() - kEthernetHeader;
  if (word(&answer[12]) == kTypeArp) return require(size == 28 && equals(ip + 8, kGatewayMac));
  const bool v4 = word(&answer[12]) == kTypeIpv4;
  require(size == (v4 ? word(ip + 2) : size_t{40} + word(ip + 4)));
  require(v4 ? equals(ip + 12, kGatewayIpv4) : equals(ip + 8, kGatewayIpv6));
  const uint8_t protocol = ip[v4 ? 9 : 6];
  if (v4) require(fuzz::plain_sum(ip, size_t{4} * (ip[0] & 15)) == 0xffff);
  if (protocol == 17) require(fuzz::plain_transport_sum(ip, v4 ? 20 : 40, size, 17) == 0xffff);
  // Of a ping that was wrong the answer is wrong.
  if (!v4 && protocol == 58 && ip[40] >= 134) require(fuzz::plain_transport_sum(ip, 40, size, 58) == 0xffff);
}

void judge(Gateway& gateway, std::span<uint8_t> given) {
  const Frame frame(given.begin(), given.end());
  const Decision decision = gateway.judge(given);
  require((decision.verdict == Verdict::passed) == !decision.packet.empty());
  require((decision.verdict == Verdict::answered) == !decision.answer.empty());
  if (decision.verdict == Verdict::passed) check_passed(frame, decision.packet);
  if (decision.verdict == Verdict::answered) check_answer(frame, decision.answer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const size_t piece = size_t{1} + input.byte() * size_t{17};
  Gateway gateway(link());
  Frame stream;
  for (int i = 0; i < kMostFrames && !input.empty(); i++) {
    const uint8_t shape = input.byte();
    Frame frame = input.bytes(input.word() % 2048);
    if ((shape & 16) != 0) {
      gateway.set_names(std::vector<Ipv4>(shape & 1, kOwn4), std::vector<Ipv6>(shape >> 1 & 15, kOwn6));
      require(!gateway.advertisement().empty());
    }
    repair(frame, shape);
    if ((shape & 8) == 0) {
      stream.resize(stream.size() + 4);
      set_word(&stream[stream.size() - 2], frame.size());
    }
    stream.insert(stream.end(), frame.begin(), frame.end());
  }
  const std::vector<Frame> expected = frames_of(stream);
  FrameReader reader;
  size_t read = 0;
  for (size_t at = 0; at < stream.size() && !reader.is_broken();) {
    const std::span<uint8_t> room = reader.room();
    const size_t taken = std::min({piece, room.size(), stream.size() - at});
    require(taken != 0);
    std::copy_n(stream.begin() + static_cast<ptrdiff_t>(at), taken, room.begin());
    reader.filled(taken);
    at += taken;
    for (std::span<uint8_t> frame = reader.next(); !frame.empty(); frame = reader.next()) {
      require(read < expected.size() && std::ranges::equal(frame, expected[read]));
      read++;
      judge(gateway, frame);
    }
  }
  require(read == expected.size());
  reader.reset();
  require(reader.pending() == 0 && !reader.is_broken());
  return 0;
}
