// SPDX-License-Identifier: Apache-2.0
// Packets with any options and extension headers, fragments among them, cut into fragments for one link and,
// where they are too long for it, again for the next. A host that puts together what arrives has every byte
// of the packet, once and where it was; no piece is longer than its link takes, and each is a packet of its
// own.
//
// input: shape u8 · MTU u16 · MTU of the next link u16 · size of the payload u16 · bytes of the header
//   shape bit 0: IPv6 instead of IPv4
//   shape bit 1: the packet is a fragment itself
//   shape bit 2: the rest of the input is the packet, whatever it is
//   shape bits 4 to 7: words of IPv4 options; extension headers of IPv6
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/plain_checksum.h"
#include "inner/fragmentation.h"

using namespace omerta;
using namespace omerta::inner;
using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

using Packet = std::vector<uint8_t>;
constexpr size_t kLongest = 65'535;
constexpr uint32_t kIdentification = 0x01020304;

size_t word(const uint8_t* at) { return static_cast<size_t>(at[0]) << 8 | at[1]; }
void set_word(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

/// What is fragmented of a packet, as a host has it that puts fragments together: each byte comes once, and
/// none in front of `begin`.
class Assembled {
 public:
  explicit Assembled(size_t begin) : begin_(begin) {}

  void take(size_t offset, std::span<const uint8_t> bytes, bool more) {
    require(offset >= begin_ && offset + bytes.size() <= kLongest);
    const size_t at = offset - begin_;
    if (bytes_.size() < at + bytes.size()) {
      bytes_.resize(at + bytes.size());
      there_.resize(bytes_.size());
    }
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<ptrdiff_t>(at));
    for (size_t i = at; i < at + bytes.size(); i++) require(!std::exchange(there_[i], uint8_t{1}));
    if (more) return;
    require(!end_.has_value());
    end_ = at + bytes.size();
  }
  /// Whether these bytes are there and nothing else is, and the packet ends with them or goes on.
  bool holds(std::span<const uint8_t> bytes, bool more) const {
    return std::ranges::equal(bytes_, bytes) && std::ranges::count(there_, 0) == 0 &&
           end_.has_value() != more && (more || *end_ == bytes.size());
  }

 private:
  const size_t begin_;
  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> there_;
  std::optional<size_t> end_;
};

/// A packet as its fragments are seen: what is in front of the data in each, and where that belongs.
struct Fragment {
  size_t data;  ///< where it begins
  size_t offset;
  bool more;
};

/// Options as later fragments have them: instead of those without the copied flag there are as many options
/// that say nothing (RFC 791 3.1). None is read behind one whose length cannot be.
Packet header_of_later_ones(Packet header) {
  for (size_t at = 20; at < header.size() && header[at] != 0;) {
    const size_t left = header.size() - at;
    size_t length = 1;
    if (header[at] != 1) {
      length = left > 1 ? header[at + 1] : 0;
      if (length < 2 || length > left) break;
      if (header[at] < 128) std::fill_n(header.begin() + static_cast<ptrdiff_t>(at), length, uint8_t{1});
    }
    at += length;
  }
  return header;
}

Fragment read4(const Packet& packet) {
  return {static_cast<size_t>(packet[0] & 15) * 4, (word(&packet[6]) & 0x1fff) * 8, (packet[6] & 0x20) != 0};
}

std::vector<Packet> cut4(Packet packet, size_t mtu) {
  const std::vector<Packet> pieces = fragment4(parse_ip(packet.data(), packet.size()), packet.data(), mtu);
  const Fragment whole = read4(packet);
  const bool possible = whole.offset + packet.size() <= kLongest;
  require(pieces.empty() == (!possible || mtu < whole.data + 8 || packet.size() == whole.data));
  Packet first(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(whole.data));
  const Packet later = header_of_later_ones(first);
  for (const Packet& piece : pieces) {
    const bool last = &piece == &pieces.back();
    require(piece.size() > whole.data && piece.size() <= mtu && word(&piece[2]) == piece.size());
    require(fuzz::plain_sum(piece.data(), whole.data) == 0xffff);
    require((piece[6] & 0xc0) == 0 && read4(piece).more == (!last || whole.more));
    // Whole units, and no more pieces than there have to be.
    require(last || ((piece.size() - whole.data) % 8 == 0 && piece.size() + 8 > mtu));
    Packet expected = &piece == &pieces.front() ? first : later;
    for (const size_t own : {2, 3, 6, 7, 10, 11}) expected[own] = piece[own];
    require(std::equal(expected.begin(), expected.end(), piece.begin()));
  }
  return pieces;
}

/// Where the part of an IPv6 packet begins that may be fragmented, and the byte that says what is there:
/// behind the last of the headers which nodes on the way look at, and all in front of that (RFC 8200 4.5).
struct Split {
  size_t at;
  size_t link;
};
std::optional<Split> split6(const Packet& packet) {
  struct Header {
    uint8_t type;
    Split behind;
  };
  std::vector<Header> chain = {{0, {40, 6}}};
  for (;;) {
    const auto [at, link] = chain.back().behind;
    const uint8_t type = packet[link];
    if (type != 0 && type != 43 && type != 60) break;
    if (packet.size() < at + 8 || packet.size() < at + 8 * (packet[at + 1] + size_t{1})) return std::nullopt;
    chain.push_back({type, {at + 8 * (packet[at + 1] + size_t{1}), at}});
  }
  while (chain.back().type == 60) chain.pop_back();
  return chain.back().behind;
}

Fragment read6(const Packet& packet, const Split& split) {
  if (packet[split.link] != 44 || packet.size() < split.at + 8) return {split.at, 0, false};
  const size_t field = word(&packet[split.at + 2]);
  return {split.at + 8, field & 0xfff8, (field & 1) != 0};
}

std::vector<Packet> cut6(Packet packet, size_t mtu) {
  const std::vector<Packet> pieces =
      fragment6(parse_ip(packet.data(), packet.size()), packet.data(), mtu, kIdentification);
  if (packet.size() <= mtu) {
    require(pieces == std::vector<Packet>{packet});
    return pieces;
  }
  const std::optional<Split> split = split6(packet);
  const bool again = split.has_value() && packet[split->link] == 44;
  const Fragment whole = split.has_value() ? read6(packet, *split) : Fragment{0, 0, false};
  const bool possible =
      split.has_value() && (!again || whole.data == split->at + 8) && whole.data < packet.size() &&
      split->at - 40 + whole.offset + packet.size() - whole.data <= kLongest && mtu >= split->at + 16;
  require(pieces.empty() == !possible);
  for (const Packet& piece : pieces) {
    const bool last = &piece == &pieces.back();
    const size_t data = split->at + 8;
    require(piece.size() > data && piece.size() <= mtu && word(&piece[4]) + 40 == piece.size());
    require(piece[split->link] == 44 && read6(piece, *split).more == (!last || whole.more));
    require(last || ((piece.size() - data) % 8 == 0 && piece.size() + 8 > mtu));
    require(again ? std::equal(&piece[split->at], &piece[split->at] + 2, &packet[split->at]) &&
                        std::equal(&piece[split->at + 4], &piece[split->at] + 8, &packet[split->at + 4])
                  : piece[split->at] == packet[split->link] &&
                        load<uint32_t>(&piece[split->at + 4]) == kIdentification);
    Packet expected(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(split->at));
    for (const size_t own : {size_t{4}, size_t{5}, split->link}) expected[own] = piece[own];
    require(std::equal(expected.begin(), expected.end(), piece.begin()));
  }
  return pieces;
}

Packet packet4(Input& input, uint8_t shape, size_t payload) {
  const size_t header = 20 + std::min<size_t>(shape >> 4, 10) * 4;
  Packet packet = input.bytes(header);
  packet.resize(header + std::min(payload, kLongest - header));
  packet[0] = static_cast<uint8_t>(0x40 | header / 4);
  set_word(&packet[2], packet.size());
  if ((shape & 2) == 0) set_word(&packet[6], word(&packet[6]) & 0x8000);
  return packet;
}

Packet packet6(Input& input, uint8_t shape, size_t payload) {
  static constexpr uint8_t kTypes[] = {0, 43, 60, 44, 17, 59};
  Packet packet = input.bytes(40);
  packet.resize(40);
  packet[0] = static_cast<uint8_t>(0x60 | (packet[0] & 15));
  size_t link = 6;
  const auto append = [&](uint8_t type, size_t size) {
    packet[link] = type;
    link = packet.size();
    Packet header = input.bytes(size);
    header.resize(size);
    packet.insert(packet.end(), header.begin(), header.end());
  };
  for (int left = shape >> 6; left > 0; left--) {
    const uint8_t what = input.byte();
    append(kTypes[what % 3], size_t{8} * (1 + what / 128));
    packet[link + 1] = what % 16 == 15 ? what : what / 128;  // sometimes beyond the packet
  }
  if ((shape & 2) != 0) append(44, 8);
  packet[link] = kTypes[3 + (shape >> 4 & 3) % 3];
  packet.resize(packet.size() + std::min(payload, kLongest + 40 - packet.size()));
  set_word(&packet[4], packet.size() - 40);
  return packet;
}

/// Any bytes, as far as they are one packet.
Packet any_packet(Input& input) {
  Packet packet = input.bytes(2 * kLongest);
  const IpView ip = parse_ip(packet.data(), packet.size());
  packet.resize(ip.family == 0 ? 0 : ip.length);
  return packet;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const uint8_t shape = input.byte();
  // Longer ones are cut the same way, and take long.
  const size_t mtu = input.word() % 2048, next_mtu = input.word() % 2048, payload = input.word() % 4096;
  Packet packet = (shape & 4) != 0   ? any_packet(input)
                  : (shape & 1) != 0 ? packet6(input, shape, payload)
                                     : packet4(input, shape, payload);
  if (packet.empty()) return 0;
  const bool v4 = packet[0] >> 4 == 4;
  const auto cut = [v4](const Packet& whole, size_t limit) {
    return v4 ? cut4(whole, limit) : cut6(whole, limit);
  };
  const std::optional<Split> split = v4 ? std::nullopt : split6(packet);
  if (!v4 && !split.has_value()) {
    cut(packet, mtu);
    return 0;
  }
  const auto read = [&](const Packet& one) { return v4 ? read4(one) : read6(one, *split); };
  const Fragment whole = read(packet);
  if ((shape & 4) == 0)
    for (size_t i = whole.data; i < packet.size(); i++) packet[i] = static_cast<uint8_t>(i ^ i >> 7);
  std::vector<Packet> arrived;
  for (const Packet& piece : cut(packet, mtu)) {
    if (piece.size() <= next_mtu) {
      arrived.push_back(piece);
      continue;
    }
    const std::vector<Packet> again = cut(piece, next_mtu);
    if (again.empty()) return 0;  // the next link has no room for any
    arrived.insert(arrived.end(), again.begin(), again.end());
  }
  if (arrived.empty() || (!v4 && arrived == std::vector<Packet>{packet})) return 0;
  Assembled assembled(whole.offset);
  for (const Packet& piece : arrived) {
    const auto [at, offset, more] = read(piece);
    assembled.take(offset, std::span(piece).subspan(at), more);
  }
  require(assembled.holds(std::span(packet).subspan(whole.data), whole.more));
  return 0;
}
