// SPDX-License-Identifier: Apache-2.0
// Whether the CPU computes AES and GHASH by instructions: without them AES-256-GCM is slow, and its
// tables leak keys through the cache.
#pragma once

#if defined(__aarch64__)
#include <sys/auxv.h>
#if !defined(HWCAP_AES)
#include <asm/hwcap.h>
#endif
#endif

namespace omerta::crypto {

inline bool cpu_has_aes() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("aes") != 0 && __builtin_cpu_supports("pclmul") != 0;
#elif defined(__aarch64__)
  const unsigned long features = getauxval(AT_HWCAP);
  return (features & HWCAP_AES) != 0 && (features & HWCAP_PMULL) != 0;
#else
  return false;
#endif
}

}  // namespace omerta::crypto
