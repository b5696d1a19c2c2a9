// SPDX-License-Identifier: Apache-2.0
#include "counted.h"

#include <cstdio>

namespace omerta::bench {

void report(const char* name, uint64_t units) {
  char text[160];
  std::snprintf(text, sizeof text, "%s|%llu|%llu", name, static_cast<unsigned long long>(units),
                static_cast<unsigned long long>(allocations));
  allocations = 0;
  CALLGRIND_DUMP_STATS_AT(text);
}

}  // namespace omerta::bench

// Every allocation of C++ goes through these; a packet's way must have none.
void* operator new(std::size_t size) {
  if (omerta::bench::counting) omerta::bench::allocations++;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
