// SPDX-License-Identifier: Apache-2.0
// An attacker who sees everything on the way, knows every public key and no private one, and sends as fast
// as it can: from addresses of its own, and with the source address of the engine's peer.
#pragma once

#include <array>
#include <atomic>
#include <map>

#include "crypto/blake2s.h"
#include "flood_network.h"
#include "session/cookie.h"
#include "session/noise.h"

namespace omerta::flood {

enum class Kind : size_t {
  garbage,           ///< random bytes of any size, half of them beginning like something known
  truncated,         ///< the beginning of a real datagram
  extended,          ///< a real datagram and more behind it
  oversized,         ///< up to 65,507 bytes under a live session's header
  bit_flipped,       ///< a real datagram with one to eight bits changed
  replayed,          ///< a real datagram again, from the attacker's address
  replayed_spoofed,  ///< and with the peer's source address
  counter_jumped,    ///< a real transport message with another counter
  initiation,        ///< with a valid mac1: of strangers, and ones whose sealed parts do not open
  cookie_bearing,    ///< the same with the cookie the engine gave the attacker
  response,          ///< with a valid mac1 for a handshake nobody began
  cookie_reply,      ///< nobody asked for
  frame,             ///< Omerta frames of any kind, with real and with invented legs
  stun,              ///< binding requests, whole and broken
  everything,        ///< each of these in turn
};
inline constexpr size_t kKinds = static_cast<size_t>(Kind::everything) + 1;
inline constexpr std::array<const char*, kKinds> kKindNames = {
    "garbage",  "truncated",         "extended",       "oversized",  "bit-flipped",
    "replayed", "replayed, spoofed", "counter jumped", "initiation", "cookie-bearing",
    "response", "cookie reply",      "frame",          "stun",       "everything"};

/// An engine under attack.
struct Target {
  uint16_t port;
  Key32 public_key;
  bool is_a;           ///< what it receives is what goes to A
  const UdpEnd* peer;  ///< has the source address of its peer
};

class Attacker {
 public:
  Attacker(uint64_t seed, std::vector<Target> targets, const Path& path)
      : random_(seed),
        targets_(std::move(targets)),
        path_(path),
        self_{static_cast<uint8_t>(66 + seed % 64)} {
    for (const Target& target : targets_) prepare(target);
  }

  /// Sends one batch of a kind to one of the targets.
  void send(Kind kind) {
    const Target& target = targets_[turn_++ % targets_.size()];
    if (kind == Kind::everything) kind = static_cast<Kind>(random_.below(kKinds - 1));
    std::vector<Datagram> batch;
    // Large ones are few: they would only fill the socket buffer of the loopback device.
    const size_t count = kind == Kind::oversized ? 4 : kBatch;
    while (batch.size() < count) batch.push_back(make(kind, target));
    const bool spoofed = kind == Kind::replayed_spoofed ||
                         (kind != Kind::replayed && kind != Kind::cookie_bearing && random_.below(4) == 0);
    (spoofed ? *target.peer : self_).send(batch, target.port);
    sent_[static_cast<size_t>(kind)] += batch.size();
    for (const Datagram& datagram : batch) sent_bytes_ += datagram.size();
    take_answers();
  }

  uint64_t sent(Kind kind) const { return sent_[static_cast<size_t>(kind)]; }
  uint64_t sent_bytes() const { return sent_bytes_; }
  uint64_t answered_bytes() const { return answered_bytes_; }
  /// Answers other than cookie replies and STUN responses.
  uint64_t strange_answers() const { return strange_answers_; }
  uint64_t cookies() const { return cookies_taken_; }

 private:
  static constexpr size_t kBatch = 32;
  static constexpr size_t kStrangers = 32;

  struct Strangers {
    std::vector<session::Initiation> initiations;
    Key32 mac1_key;
    Key32 cookie_key;
    bool has_cookie = false;
    session::Cookie cookie{};
  };

  void prepare(const Target& target) {
    Strangers& strangers = strangers_[target.port];
    for (size_t i = 0; i < kStrangers; i++) {
      Key32 secret;
      random_.fill(secret.data(), secret.size());
      const session::LocalIdentity self(secret);
      const session::RemoteIdentity remote(self, target.public_key);
      Key32 ephemeral;
      random_.fill(ephemeral.data(), ephemeral.size());
      session::HandshakeState state;
      session::Initiation& message = strangers.initiations.emplace_back();
      session::Timestamp timestamp;
      timestamp.fill(0x40);
      if (!session::create_initiation(self, remote, ephemeral, timestamp, sender_index(i), state, message))
        throw std::runtime_error("the target's public key is none");
      strangers.mac1_key = remote.mac1_key;
      strangers.cookie_key = remote.cookie_key;
      seal(strangers, message, false);
    }
  }

  static uint32_t sender_index(size_t i) { return 0xabc00000u + static_cast<uint32_t>(i); }

  template <class Message>
  static void seal(const Strangers& strangers, Message& message, bool with_cookie) {
    message.mac1 = crypto::blake2s_mac(strangers.mac1_key, {session::before_mac1(message)});
    message.mac2 =
        with_cookie ? crypto::blake2s_mac(strangers.cookie, {session::before_mac2(message)}) : Mac16{};
  }

  template <class Message>
  static Datagram bytes_of(const Message& message) {
    const auto* data = reinterpret_cast<const uint8_t*>(&message);
    return {data, data + sizeof message};
  }

  Datagram random_bytes(size_t size) {
    Datagram out(size);
    random_.fill(out.data(), std::min<size_t>(size, 256));
    return out;
  }

  Datagram real(const Target& target) { return path_.captured(target.is_a, random_); }

  Datagram make(Kind kind, const Target& target) {
    switch (kind) {
      case Kind::garbage: {
        Datagram out = random_bytes(random_.below(1500));
        if (out.size() > 8 && random_.below(2) == 0) {
          out[0] = static_cast<uint8_t>("\x6f\x01\x02\x03\x04\x00"[random_.below(6)]);
          if (random_.below(2) == 0) out[1] = out[2] = out[3] = 0;
        }
        return out;
      }
      case Kind::truncated: {
        Datagram out = real(target);
        out.resize(random_.below(out.size()));
        return out;
      }
      case Kind::extended: {
        Datagram out = real(target);
        out.resize(out.size() + 1 + random_.below(64), 0x55);
        return out;
      }
      case Kind::oversized: {
        Datagram out = real(target);
        out.resize(2000 + random_.below(65507 - 2000), 0x55);
        return out;
      }
      case Kind::bit_flipped: {
        Datagram out = real(target);
        // Half of the changes are in the header, which is small.
        const size_t within = random_.below(2) == 0 ? std::min<size_t>(out.size(), 32) : out.size();
        for (size_t flips = 1 + random_.below(8); flips > 0; flips--)
          out[random_.below(within)] ^= static_cast<uint8_t>(1u << random_.below(8));
        return out;
      }
      case Kind::replayed:
      case Kind::replayed_spoofed:
        return real(target);
      case Kind::counter_jumped: {
        Datagram out = real(target);
        const size_t at = out.size() > 48 && out[0] == OMERTA_FRAME_MAGIC ? 24 : 8;
        if (out.size() < at + 8) return out;
        const uint64_t counter = random_.below(2) == 0 ? random_.word() : UINT64_MAX - random_.below(1 << 14);
        std::memcpy(out.data() + at, &counter, sizeof counter);
        return out;
      }
      case Kind::initiation:
      case Kind::cookie_bearing: {
        const Strangers& strangers = strangers_[target.port];
        session::Initiation message = strangers.initiations[random_.below(kStrangers)];
        const bool bearing = kind == Kind::cookie_bearing && strangers.has_cookie;
        if (random_.below(2) == 0) random_.fill(message.ephemeral.data(), message.ephemeral.size());
        if (random_.below(4) == 0)
          random_.fill(message.sealed_timestamp.data(), message.sealed_timestamp.size());
        seal(strangers, message, bearing);
        if (random_.below(16) == 0) message.mac1[random_.below(16)] ^= 1;
        last_mac1_[{target.port, message.sender}] = message.mac1;
        return bytes_of(message);
      }
      case Kind::response: {
        session::Response message{};
        message.type = session::kResponseType;
        message.receiver = static_cast<uint32_t>(random_.word());
        random_.fill(message.ephemeral.data(), message.ephemeral.size());
        seal(strangers_[target.port], message, false);
        return bytes_of(message);
      }
      case Kind::cookie_reply: {
        session::CookieReply message{};
        message.type = session::kCookieReplyType;
        const Datagram live = real(target);
        if (live.size() >= 32 && live[0] == session::kTransportType)
          std::memcpy(&message.receiver, live.data() + 4, 4);
        random_.fill(message.nonce.data(), message.nonce.size());
        return bytes_of(message);
      }
      case Kind::frame: {
        Datagram out = random_.below(2) == 0 ? real(target) : random_bytes(32 + random_.below(200));
        if (out.size() < OMERTA_FRAME_MIN_SIZE) out.resize(OMERTA_FRAME_MIN_SIZE);
        if (out[0] != OMERTA_FRAME_MAGIC || random_.below(2) == 0) {
          out[0] = OMERTA_FRAME_MAGIC;
          out[1] = static_cast<uint8_t>("\x01\x02\x03\x10\x11\x12\x13\x20\x30\x7f"[random_.below(10)]);
          out[2] = static_cast<uint8_t>(random_.below(10));
          out[3] = static_cast<uint8_t>(random_.below(20));
          if (random_.below(4) == 0) std::memset(out.data() + 4, 0, 4);  // the contact leg
        } else {
          out[random_.below(32)] ^= static_cast<uint8_t>(1u << random_.below(8));
        }
        return out;
      }
      case Kind::stun: {
        Datagram out = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
        if (random_.below(2) == 0) out[random_.below(8)] ^= static_cast<uint8_t>(1 + random_.below(255));
        if (random_.below(4) == 0) out.resize(random_.below(60));
        return out;
      }
      case Kind::everything:
        break;
    }
    return {};
  }

  /// Takes the cookies it is given, and counts everything.
  void take_answers() {
    for (const Datagram& answer : self_.receive()) {
      answered_bytes_ += answer.size();
      if (answer.size() == sizeof(session::CookieReply) && answer[0] == session::kCookieReplyType) {
        take_cookie(answer);
      } else if (answer.size() < 32 || answer.size() > 44 || answer[0] != 1 || answer[1] != 1) {
        strange_answers_++;
      }
    }
  }

  void take_cookie(const Datagram& answer) {
    const auto reply = load<session::CookieReply>(answer.data());
    for (auto& [port, strangers] : strangers_) {
      const auto mac1 = last_mac1_.find({port, reply.receiver});
      if (mac1 == last_mac1_.end() ||
          !session::open_cookie_reply(strangers.cookie_key, reply, mac1->second, strangers.cookie))
        continue;
      strangers.has_cookie = true;
      cookies_taken_++;
    }
  }

  Random random_;
  std::vector<Target> targets_;
  const Path& path_;
  UdpEnd self_;
  size_t turn_ = 0;
  std::map<uint16_t, Strangers> strangers_;
  std::map<std::pair<uint16_t, uint32_t>, Mac16> last_mac1_;
  std::array<std::atomic<uint64_t>, kKinds> sent_{};
  uint64_t sent_bytes_ = 0;
  uint64_t answered_bytes_ = 0;
  uint64_t strange_answers_ = 0;
  uint64_t cookies_taken_ = 0;
};

}  // namespace omerta::flood
