"""Golden numbers of native/src/optim/tests.rs: three steps of torch.optim.AdamW in float32."""

import torch

parameter = torch.nn.Parameter(torch.tensor([0.5, -1.25, 2.0, 0.0]))
optimiser = torch.optim.AdamW([parameter], lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, foreach=False)
for i in (1.0, 2.0, 3.0):
    parameter.grad = 0.5 * torch.tensor([i, -i * i, 0.25 * i, 1e-3])
    optimiser.step()
print([float(f"{value:.9g}") for value in parameter.tolist()])
