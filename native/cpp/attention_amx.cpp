// The tasks of range attention with products in AMX's tiles.
#include "attention_tasks.h"

namespace monopass {
namespace {

// Layout of the tile registers: eight of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Everything in multiples of kTileMultiple: rows beyond those asked for are computed too, so a and c have room for them.
template <>
struct Products<Tiles> {
  static constexpr int64_t kStrip = 32;
  static constexpr int64_t kColumns = kTileMultiple;
  static constexpr int64_t kKeyBlock = 256;
  static constexpr int64_t kBackwardKeys = 64;

  // The registers are this thread's; oneDNN, which uses them too, looks at what they are configured for.
  struct Session {
    Session() {
      const TileConfig config;
      _tile_loadconfig(&config);
    }
    ~Session() { _tile_release(); }
  };

  static void product(
      int64_t rows, int64_t vectors, const bf16* a, int64_t lda, const bf16* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
    for (int64_t v = 0; v < vectors; v += 2) {
      for (int64_t r = 0; r < rows; r += kStrip) block(a + r * lda, 2 * lda, b + v * 32, 2 * ldb, steps, c + r * ldc + v * 16, 4 * ldc, add);
    }
  }

 private:
  // 32 x 32: four tiles of sums (0 to 3), two of rows (4, 5), two of columns (6, 7). Strides in bytes.
  static inline void block(const bf16* a, int64_t lda, const bf16* b, int64_t ldb, int64_t steps, float* c, int64_t ldc, bool add) {
    float* below = c + 4 * ldc;  // 16 rows of ldc bytes
    // GCC's tile loads do not say that they read memory: what was written before has to be there.
    __asm__ volatile("" ::: "memory");
    if (add) {
      _tile_loadd(0, c, ldc);
      _tile_loadd(1, c + 16, ldc);
      _tile_loadd(2, below, ldc);
      _tile_loadd(3, below + 16, ldc);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t p = 0; p < steps; p += 16) {
      _tile_loadd(6, b + p * ldb / 2, ldb);
      _tile_loadd(7, b + p * ldb / 2 + 32, ldb);
      _tile_loadd(4, a + 2 * p, lda);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a + 2 * p + 8 * lda, lda);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, ldc);
    _tile_stored(1, c + 16, ldc);
    _tile_stored(2, below, ldc);
    _tile_stored(3, below + 16, ldc);
  }
};

}  // namespace

template int64_t attention_forward_scratch<Tiles, bf16>(const AttentionForward<bf16>&);
template void attention_forward<Tiles, bf16>(const AttentionForward<bf16>&, int64_t, int64_t, int64_t, int64_t, void*);
template int64_t attention_backward_scratch<Tiles, bf16>(const AttentionBackward<bf16>&, int64_t);
template void attention_backward<Tiles, bf16>(const AttentionBackward<bf16>&, int64_t, int64_t, int64_t, int64_t, int64_t, void*);

}  // namespace monopass
