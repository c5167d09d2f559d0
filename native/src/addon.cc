#include <napi.h>

#include "addon_data.h"
#include "functions.h"

namespace imageio {

namespace {

void SetErrorClass(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) {
    throw Napi::TypeError::New(info.Env(), "errorClass must be a class");
  }
  AddonData::Of(info.Env()).SetErrorClass(info[0].As<Napi::Function>());
}

using ValueFunction = Napi::Value (*)(const Napi::CallbackInfo&);

struct Export {
  const char* name;
  ValueFunction function;
};

constexpr Export kExports[] = {
    {"allocateAligned", AllocateAligned},
    {"isAligned", IsAligned},
    {"openPath", OpenPath},
    {"reopen", Reopen},
    {"descriptorPath", DescriptorPath},
    {"closeDescriptor", CloseDescriptor},
    {"status", Status},
    {"pread", Pread},
    {"pwrite", Pwrite},
    {"fdatasync", Fdatasync},
    {"truncate", Truncate},
    {"fallocate", Fallocate},
    {"blockDeviceSize", BlockDeviceSize},
    {"blockDeviceSectorSize", BlockDeviceSectorSize},
    {"blockDeviceZeroOut", BlockDeviceZeroOut},
    {"blockDeviceDiscard", BlockDeviceDiscard},
    {"dataRanges", FindDataRanges},
    {"isLocked", IsLocked},
    {"createDigest", CreateDigest},
    {"updateDigest", UpdateDigest},
    {"updateDigestNow", UpdateDigestNow},
    {"readDigest", ReadDigest},
    {"finishDigest", FinishDigest},
    {"peerCredentials", PeerCredentials},
    {"hasPeerEnded", HasPeerEnded},
    {"connectUnix", ConnectUnix},
};

}  // namespace

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  AddonData::Create(env);
  exports["setErrorClass"] = Napi::Function::New(env, SetErrorClass, "setErrorClass");
  exports["exit"] = Napi::Function::New(env, Exit, "exit");
  exports["sendDatagram"] = Napi::Function::New(env, SendDatagram, "sendDatagram");
  exports["pageSize"] = PageSize(env);
  exports["digestAlgorithms"] = DigestAlgorithms(env);
  exports["FrontDoor"] = DefineFrontDoor(env);
  exports["NbdDoor"] = DefineNbdDoor(env);
  for (const Export& each : kExports) {
    exports[each.name] = Napi::Function::New(env, each.function, each.name);
  }
  return exports;
}

}  // namespace imageio

using imageio::Init;
NODE_API_MODULE(imageio, Init)
