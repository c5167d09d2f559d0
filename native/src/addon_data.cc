#include "addon_data.h"

#include <cstring>
#include <memory>
#include <string>

namespace imageio {

namespace {

// glibc knows every errno of Linux; libuv's table lacks EDQUOT, ESTALE and others that storage
// reports.
std::string NameOf(int error) {
  const char* name = strerrorname_np(error);
  return name == nullptr ? "E" + std::to_string(error) : name;
}

// Unlike strerror(3) neither translated nor in a buffer that threads share.
std::string DescriptionOf(int error) {
  const char* description = strerrordesc_np(error);
  return description == nullptr ? "Unknown error" : description;
}

}  // namespace

void AddonData::Create(Napi::Env env) {
  // The environment deletes it when it ends.
  env.SetInstanceData(std::make_unique<AddonData>().release());
}

AddonData& AddonData::Of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }

void AddonData::SetErrorClass(const Napi::Function& error_class) {
  error_class_ = Napi::Persistent(error_class);
}

Napi::Value AddonData::MakeError(Napi::Env env, const Failure& failure) const {
  const std::string code = NameOf(failure.error);
  const std::string description = DescriptionOf(failure.error);
  if (error_class_.IsEmpty()) {
    return Napi::Error::New(env, code + ": " + description + ", " + failure.system_call).Value();
  }
  return error_class_.New({Napi::String::New(env, code), Napi::Number::New(env, -failure.error),
                           Napi::String::New(env, failure.system_call),
                           Napi::String::New(env, description)});
}

void ThrowFailure(Napi::Env env, const Failure& failure) {
  throw Napi::Error(env, AddonData::Of(env).MakeError(env, failure));
}

}  // namespace imageio
