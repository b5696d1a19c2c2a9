# Cross compilation for arm64 Linux (a BlueField DPU, an ARM server) with Debian's cross compiler.
# OMERTA_SYSROOT holds arm64 headers and libraries beside those of the cross compiler itself;
# `npm run build:arm64` prepares it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L /usr/aarch64-linux-gnu -E
    LD_LIBRARY_PATH=${OMERTA_SYSROOT}/usr/lib/aarch64-linux-gnu:${OMERTA_SYSROOT}/lib/aarch64-linux-gnu)
set(CMAKE_CXX_FLAGS_INIT "-isystem ${OMERTA_SYSROOT}/usr/include/aarch64-linux-gnu")
set(CMAKE_C_FLAGS_INIT "${CMAKE_CXX_FLAGS_INIT}")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES OMERTA_SYSROOT)

set(CMAKE_FIND_ROOT_PATH ${OMERTA_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${OMERTA_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${OMERTA_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
# libcrypto's and libelf's own dependencies live in the sysroot too.
add_link_options(LINKER:-rpath-link,${OMERTA_SYSROOT}/usr/lib/aarch64-linux-gnu
                 LINKER:-rpath-link,${OMERTA_SYSROOT}/lib/aarch64-linux-gnu)
