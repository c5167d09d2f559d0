#ifndef IMAGEIO_NATIVE_ADDON_DATA_H_
#define IMAGEIO_NATIVE_ADDON_DATA_H_

#include <napi.h>

namespace imageio {

// A system call that did not succeed.
struct Failure {
  int error = 0;  // errno, positive
  const char* system_call = "";
};

// What belongs to one JavaScript environment: the main thread has one, every worker thread its own.
class AddonData {
 public:
  static void Create(Napi::Env env);
  static AddonData& Of(Napi::Env env);

  void SetErrorClass(const Napi::Function& error_class);

  // An instance of the SystemError class that the door handed in.
  Napi::Value MakeError(Napi::Env env, const Failure& failure) const;

 private:
  Napi::FunctionReference error_class_;
};

// Throws the failure as a JavaScript SystemError, for calls that are not asynchronous.
[[noreturn]] void ThrowFailure(Napi::Env env, const Failure& failure);

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_ADDON_DATA_H_
