// Declarations only: libtorch's wheel ships Gloo's code but not the headers that ProcessGroupGloo.hpp includes.
#pragma once

#include <memory>
