// SPDX-License-Identifier: Apache-2.0
// Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard fixes it (whitepaper 5.4.1 – 5.4.5).
// Pure functions over explicit state: ephemerals and timestamps are arguments, so that handshakes
// are reproduced from vectors.
#pragma once

#include <optional>

#include "session/messages.h"

namespace omerta::session {

using Timestamp = std::array<uint8_t, 12>;  ///< TAI64N, compared as bytes

/// Our long-term key and what is derived from it once.
struct LocalIdentity {
  Key32 private_key;
  Key32 public_key;
  Key32 mac1_key;    ///< BLAKE2s("mac1----" ‖ our public key): what initiators use towards us
  Key32 cookie_key;  ///< BLAKE2s("cookie--" ‖ our public key)

  explicit LocalIdentity(const Key32& private_key);
  ~LocalIdentity();
  LocalIdentity(const LocalIdentity&) = default;
  LocalIdentity& operator=(const LocalIdentity&) = default;
};

/// A peer's long-term key and what is derived from it once.
struct RemoteIdentity {
  Key32 public_key;
  Key32 static_static;  ///< DH(our private key, peer's public key)
  Key32 preshared_key{};
  Key32 mac1_key;
  Key32 cookie_key;
  bool usable;  ///< false when static–static is all zero: such a peer never completes a handshake

  RemoteIdentity(const LocalIdentity& local, const Key32& public_key);
  /// Our own key changed: derives what depends on it.
  void meet(const LocalIdentity& local);
  ~RemoteIdentity();
};

struct TransportKeys {
  Key32 send;
  Key32 receive;

  void wipe();
};

struct HandshakeState {
  Key32 chaining_key{};
  Key32 hash{};
  Key32 ephemeral_private{};
  Key32 remote_ephemeral{};
  uint32_t local_index = 0;
  uint32_t remote_index = 0;

  void wipe();
};

/// What an initiation reveals before its sender is known to us.
struct ReceivedInitiation {
  HandshakeState state;
  Key32 static_key;
};

Key32 public_key_of(const Key32& private_key);

/// Fills everything but mac1 and mac2. false: DH gave zero.
bool create_initiation(const LocalIdentity& local, const RemoteIdentity& remote,
                       const Key32& ephemeral_private, const Timestamp& timestamp, uint32_t local_index,
                       HandshakeState& state, Initiation& out);

/// First half: learns the sender's static key. nullopt: not a valid initiation for us.
std::optional<ReceivedInitiation> open_initiation_static(const LocalIdentity& local,
                                                         const Initiation& message);
/// Second half, once the sender is known: learns the timestamp and completes the state.
std::optional<Timestamp> open_initiation_timestamp(const RemoteIdentity& remote, ReceivedInitiation& received,
                                                   const Initiation& message);

/// Responder: answers the initiation in `state`, which then holds the final chaining key.
bool create_response(const LocalIdentity& local, const RemoteIdentity& remote, const Key32& ephemeral_private,
                     uint32_t local_index, HandshakeState& state, Response& out);
/// Initiator: consumes the answer; `state` is changed only on success.
bool consume_response(const LocalIdentity& local, const RemoteIdentity& remote, const Response& message,
                      HandshakeState& state);

TransportKeys derive_transport_keys(const HandshakeState& state, bool initiator);
/// What keys agreed on later in the session are made of (docs/protocol.md, "Suites"); nothing else is.
Key32 derive_suite_secret(const HandshakeState& state);

/// mac1 over everything before it (whitepaper 5.4.4); mac2 likewise under a cookie.
template <class Message>
Bytes before_mac1(const Message& message) {
  return Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof(Message) - 32);
}
template <class Message>
Bytes before_mac2(const Message& message) {
  return Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof(Message) - 16);
}

}  // namespace omerta::session
