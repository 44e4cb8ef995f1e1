// libtorch's own log.
#include <c10/util/Logging.h>

#include <cstdlib>

// Errors only, unless the user says otherwise: its warnings come with C++ frames, and whoever calls hears of the error itself.
extern "C" void monopass_quiet_log() {
  setenv("TORCH_CPP_LOG_LEVEL", "ERROR", /*overwrite=*/0);
  c10::initLogging();
}
