#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>

#include "addon_data.h"
#include "arguments.h"
#include "functions.h"

namespace imageio {

namespace {

struct Unmap {
  size_t size;
  void operator()(uint8_t* memory) const { munmap(memory, size); }
};

using Mapping = std::unique_ptr<uint8_t, Unmap>;

Mapping MapZeroed(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return {memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory), Unmap{size}};
}

}  // namespace

// V8 counts the memory of the Buffer as external itself, see test/native/memory.test.ts.
Napi::Value AllocateAligned(const Napi::CallbackInfo& info) {
  const auto size = static_cast<size_t>(SizeArgument(info, 0, "size"));
  if (size == 0) throw Napi::RangeError::New(info.Env(), "size must not be 0");
  Mapping mapping = MapZeroed(size);
  if (mapping == nullptr) ThrowFailure(info.Env(), {errno, "mmap"});
  const Unmap unmap = mapping.get_deleter();
  const ByteBuffer buffer = ByteBuffer::New(info.Env(), mapping.get(), size,
                                            [unmap](Napi::Env, uint8_t* memory) { unmap(memory); });
  static_cast<void>(mapping.release());
  return buffer;
}

Napi::Value IsAligned(const Napi::CallbackInfo& info) {
  const ByteBuffer buffer = BufferArgument(info, 0, "buffer");
  const auto alignment = static_cast<uint64_t>(SizeArgument(info, 1, "alignment"));
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    throw Napi::RangeError::New(info.Env(), "alignment must be a power of two");
  }
  const auto address = reinterpret_cast<uintptr_t>(buffer.Data());
  return Napi::Boolean::New(info.Env(), (address & (alignment - 1)) == 0);
}

Napi::Value PageSize(Napi::Env env) {
  return Napi::Number::New(env, static_cast<double>(sysconf(_SC_PAGESIZE)));
}

}  // namespace imageio
