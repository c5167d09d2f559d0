#ifndef IMAGEIO_NATIVE_ARGUMENTS_H_
#define IMAGEIO_NATIVE_ARGUMENTS_H_

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>

// The door's checks. Each throws a TypeError or a RangeError that names the argument, so that a
// call with a wrong argument never reaches the kernel.
namespace imageio {

using ByteBuffer = Napi::Buffer<uint8_t>;

// The largest whole number a JavaScript number holds exactly, 2^53 - 1.
constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

// A safe integer that is not negative.
int64_t SizeArgument(const Napi::CallbackInfo& info, size_t index, const char* name);

// A number that may be a file descriptor; whether it is one, the kernel tells.
int DescriptorArgument(const Napi::CallbackInfo& info, size_t index);

// How many threads to start, 1 to 64.
unsigned ThreadsArgument(const Napi::CallbackInfo& info, size_t index);

bool BooleanArgument(const Napi::CallbackInfo& info, size_t index, const char* name);

std::string StringArgument(const Napi::CallbackInfo& info, size_t index, const char* name);

// A string without NUL, which would cut it short, that is not empty.
std::string PathArgument(const Napi::CallbackInfo& info, size_t index, const char* name);

// A Buffer or another view of bytes.
ByteBuffer BufferArgument(const Napi::CallbackInfo& info, size_t index, const char* name);

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_ARGUMENTS_H_
