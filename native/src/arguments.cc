#include "arguments.h"

#include <climits>
#include <cmath>

namespace imageio {

namespace {

[[noreturn]] void ThrowType(const Napi::CallbackInfo& info, const char* name, const char* what) {
  throw Napi::TypeError::New(info.Env(), std::string(name) + " must be " + what);
}

[[noreturn]] void ThrowRange(const Napi::CallbackInfo& info, const char* name, const char* what) {
  throw Napi::RangeError::New(info.Env(), std::string(name) + " must be " + what);
}

}  // namespace

int64_t SizeArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsNumber()) ThrowType(info, name, "a number");
  const double number = value.As<Napi::Number>().DoubleValue();
  // Written so that NaN fails too.
  if (!(number >= 0 && number <= static_cast<double>(kMaxSafeInteger)) ||
      number != std::trunc(number)) {
    ThrowRange(info, name, "a safe integer that is not negative");
  }
  return static_cast<int64_t>(number);
}

int DescriptorArgument(const Napi::CallbackInfo& info, size_t index) {
  const int64_t number = SizeArgument(info, index, "fd");
  if (number > INT_MAX) ThrowRange(info, "fd", "a file descriptor");
  return static_cast<int>(number);
}

unsigned ThreadsArgument(const Napi::CallbackInfo& info, size_t index) {
  const int64_t threads = SizeArgument(info, index, "threads");
  if (threads < 1 || threads > 64) ThrowRange(info, "threads", "from 1 to 64");
  return static_cast<unsigned>(threads);
}

bool BooleanArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsBoolean()) ThrowType(info, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string StringArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsString()) ThrowType(info, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::string PathArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  std::string path = StringArgument(info, index, name);
  if (path.empty() || path.find('\0') != std::string::npos) {
    ThrowType(info, name, "a path, not empty and without NUL");
  }
  return path;
}

ByteBuffer BufferArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const Napi::Value value = info[index];
  if (!value.IsBuffer()) ThrowType(info, name, "a Buffer");
  return value.As<ByteBuffer>();
}

}  // namespace imageio
