#include "kernels/cpu/simd/attention.h"

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/simd/attention.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include "kernels/cpu/simd/targets.h"

#include "kernels/cpu/simd/dot-inl.h"
#include "kernels/cpu/simd/host.h"

HWY_BEFORE_NAMESPACE();
namespace tte::kernels::simd::HWY_NAMESPACE {
namespace {

constexpr std::size_t kKeys = 64;  // Keys of a block: their scores for a unit's rows stay in the caches.
static_assert(kChunk % kKeys == 0);
// A score that exp() turns into zero, and the maximum of no scores. Not infinite: differences stay numbers.
constexpr float kNone = -1e30f;

// What is known of a unit's rows after some keys: maximum score, sum of exponentials, weighted sum of values.
struct State {
  float* maximum;  // [rows]
  float* total;    // [rows]
  float* sums;     // [rows, width]
};

// Sizes and scratch of one call. A unit row is a (query row, head of the group) pair.
struct Unit {
  std::size_t rows, width;  // width: head_dim in whole steps.
  State chunk, all;
  float* q;       // [rows, width], packed in groups; without pages one after the other.
  float* scores;  // [rows, kKeys]
  float* keys;    // [kKeys, width] where head_dim is not in whole steps; without pages [width, kKeys].
  float* values;  // [kKeys, width] where head_dim is not in whole steps.
  float* column;  // [width]
};

std::size_t state_size(std::size_t rows, std::size_t width) {
  return rows * (2 + width);
}
State state_at(float* memory, std::size_t rows) {
  return {memory, memory + rows, memory + 2 * rows};
}

std::size_t width_of(const Attention& a) {
  return steps_of(a.head_dim) * kStep;
}

std::size_t ScratchSize(const Attention& a, std::size_t query_rows) {
  const std::size_t rows = query_rows * a.group, width = width_of(a);
  return 2 * state_size(rows, width) + rows * width + rows * kKeys + (2 * kKeys + 1) * width;
}
std::size_t PartialSize(const Attention& a, std::size_t query_rows) {
  return state_size(query_rows * a.group, width_of(a));
}

Unit make_unit(const Attention& a, std::size_t query_rows, float* scratch) {
  Unit unit{};
  unit.rows = query_rows * a.group;
  unit.width = width_of(a);
  const auto take = [&](std::size_t count) {
    float* taken = scratch;
    scratch += count;
    return taken;
  };
  unit.keys = take(kKeys * unit.width);
  unit.values = take(kKeys * unit.width);
  unit.column = take(unit.width);
  unit.q = take(unit.rows * unit.width);
  unit.chunk = state_at(take(state_size(unit.rows, unit.width)), unit.rows);
  unit.all = state_at(take(state_size(unit.rows, unit.width)), unit.rows);
  unit.scores = take(unit.rows * kKeys);
  return unit;
}

void reset(const State& state, std::size_t rows, std::size_t width) {
  std::fill_n(state.maximum, rows, kNone);
  std::fill_n(state.total, rows, 0.0f);
  std::fill_n(state.sums, rows * width, 0.0f);
}

// Whether pairs of T's values are multiplied, which then stay as they are.
template <class T>
bool in_pairs() {
  return TTE_KERNELS_PAIRS && std::is_same_v<T, BFloat16> && multiplies_pairs();
}

// One row of q or of a key as what score_columns() multiplies: values, or pairs of them. Returns how many.
template <class T>
HWY_INLINE std::size_t pack_column(const T* x, std::size_t head_dim, std::size_t width, float* packed) {
  if (in_pairs<T>()) {
    const std::size_t pairs = (head_dim + 1) / 2;
    packed[pairs - 1] = 0.0f;
    std::memcpy(packed, x, head_dim * sizeof(T));
    return pairs;
  }
  pack_row(x, head_dim, 0, 1, packed);
  return std::is_same_v<T, BFloat16> ? width
                                     : head_dim;  // pack_row() mixes the values of a step of bfloat16.
}

template <class T>
void pack_queries(const Attention& a, std::size_t row_begin, const Unit& unit) {
  for (std::size_t r = 0; r < unit.rows; ++r) {
    const T* q = static_cast<const T*>(a.q) + (row_begin + r / a.group) * a.q_row_stride +
                 r % a.group * a.q_head_stride;
    if (a.blocks == nullptr) {
      pack_column(q, a.head_dim, unit.width, unit.q + r * unit.width);
      continue;
    }
    const std::size_t first = r / kGroup * kGroup;
    pack_row(q, a.head_dim, r - first, std::min(kGroup, unit.rows - first), unit.q + first * unit.width);
  }
}

// Token t of keys or values.
template <class T>
const T* token(const Attention& a, const void* base, std::size_t stride, std::size_t t) {
  if (a.blocks == nullptr) return static_cast<const T*>(base) + t * stride;
  const auto block = static_cast<std::size_t>(a.blocks[t / a.block_size]);
  return static_cast<const T*>(base) + (block * a.block_size + t % a.block_size) * stride;
}

// scores = q . k for `count` keys that lie `stride` apart.
template <class T>
void score(const Unit& unit, const T* keys, std::size_t stride, std::size_t head_dim, std::size_t at,
           std::size_t count) {
  for (std::size_t r = 0; r < unit.rows; r += kGroup) {
    group_function<false, float, T>(std::min(kGroup, unit.rows - r))(
        unit.q + r * unit.width, keys, stride, head_dim, true, count, unit.scores + r * kKeys + at, kKeys);
  }
}

// scores[m][j] = sum over i < depth of q[m][i] * columns[i][j], for M rows and N vectors of keys.
template <bool kPairs, std::size_t M, std::size_t N>
HWY_INLINE void score_tile(const float* HWY_RESTRICT q, std::size_t width, const float* HWY_RESTRICT columns,
                           std::size_t depth, float* HWY_RESTRICT scores) {
  const F f;
  VF acc[M * N];
  for (std::size_t i = 0; i < M * N; ++i) acc[i] = hn::Zero(f);
  for (std::size_t i = 0; i < depth; ++i) {
    VF ks[N];
    for (std::size_t n = 0; n < N; ++n) ks[n] = hn::LoadU(f, columns + i * kKeys + n * kLanes);
    for (std::size_t m = 0; m < M; ++m) {
      const VF v = keep(hn::Set(f, q[m * width + i]));
      for (std::size_t n = 0; n < N; ++n) {
#if TTE_KERNELS_PAIRS
        if constexpr (kPairs) {
          acc[m * N + n] = add_products_of_pairs(acc[m * N + n], v, ks[n]);
          continue;
        }
#endif
        acc[m * N + n] = hn::MulAdd(v, ks[n], acc[m * N + n]);
      }
    }
  }
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t n = 0; n < N; ++n) hn::StoreU(acc[m * N + n], f, scores + m * kKeys + n * kLanes);
  }
}

template <bool kPairs, std::size_t M>
void score_rows(const float* q, std::size_t width, const float* columns, std::size_t depth, std::size_t count,
                float* scores) {
  constexpr std::size_t kWide = std::min(kTile, kKeys / kLanes);
  for (std::size_t j = 0; j < count; j += kWide * kLanes) {
    score_tile<kPairs, M, kWide>(q, width, columns + j, depth, scores + j);
  }
}

// Many rows against keys without pages: the keys are transposed, so that lanes are keys and no sums over
// lanes are needed, which for short heads would take as long as the products.
template <class T>
void score_columns(const Attention& a, const Unit& unit, std::size_t begin, std::size_t count) {
  std::size_t depth = 0;
  for (std::size_t j = 0; j < count; ++j) {
    depth = pack_column(token<T>(a, a.keys, a.key_stride, begin + j), a.head_dim, unit.width, unit.column);
    for (std::size_t i = 0; i < depth; ++i) unit.keys[i * kKeys + j] = unit.column[i];
  }
  for (std::size_t i = 0; i < depth; ++i)
    std::fill(unit.keys + i * kKeys + count, unit.keys + (i + 1) * kKeys, 0.0f);
  using Function = void (*)(const float*, std::size_t, const float*, std::size_t, std::size_t, float*);
  static constexpr Function kFunctions[2][kGroup] = {
      {score_rows<false, 1>, score_rows<false, 2>, score_rows<false, 3>, score_rows<false, 4>,
       score_rows<false, 5>, score_rows<false, 6>},
      {score_rows<true, 1>, score_rows<true, 2>, score_rows<true, 3>, score_rows<true, 4>,
       score_rows<true, 5>, score_rows<true, 6>}};
  for (std::size_t r = 0; r < unit.rows; r += kGroup) {
    kFunctions[in_pairs<T>() ? 1 : 0][std::min(kGroup, unit.rows - r) - 1](
        unit.q + r * unit.width, unit.width, unit.keys, depth, count, unit.scores + r * kKeys);
  }
}

// values[0 .. count) *= factor; count is in whole vectors.
HWY_INLINE void scale_by(float* values, std::size_t count, float factor) {
  const F f;
  const VF v = hn::Set(f, factor);
  for (std::size_t i = 0; i < count; i += kLanes)
    hn::StoreU(hn::Mul(hn::LoadU(f, values + i), v), f, values + i);
}
// exp(x) for x <= 0 (and what rounding makes of 0), to the last bit or two; zero below -87.
HWY_INLINE VF exp_below_zero(VF x) {
  const F f;
  // x = n log(2) + r: the sum of a number this large and n / log(2) has n in its lowest bits.
  const VF large = hn::Set(f, 12582912.0f);
  const VF sum = hn::MulAdd(x, hn::Set(f, 1.44269504f), large), n = hn::Sub(sum, large);
  VF r = hn::MulAdd(n, hn::Set(f, -0.693145752f), x);
  r = hn::MulAdd(n, hn::Set(f, -1.42860677e-6f), r);
  VF y = hn::MulAdd(hn::Set(f, 1.98756915e-4f), r, hn::Set(f, 1.39819995e-3f));
  for (const float c : {8.33345191e-3f, 4.16657959e-2f, 0.166666655f, 0.5f, 1.0f, 1.0f})
    y = hn::MulAdd(y, r, hn::Set(f, c));
  const VU power = hn::ShiftLeft<23>(hn::BitCast(U(), sum));
  y = hn::BitCast(f, hn::Add(hn::BitCast(U(), y), power));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(f, -87.0f)), y);
}
HWY_INLINE float exp_of(float x) {
  return hn::GetLane(exp_below_zero(hn::Set(F(), x)));
}

// Turns one row's scores of `count` keys, of which the row sees the first `visible`, into exponentials (zero
// for the others), and the state of row r follows.
HWY_INLINE void soften(const Unit& unit, std::size_t r, float scale, std::size_t count, std::size_t visible) {
  const F f;
  float* scores = unit.scores + r * kKeys;
  const std::size_t seen = (visible + kLanes - 1) / kLanes * kLanes;
  std::fill(scores + visible, scores + seen, kNone);
  std::fill(scores + seen, scores + std::max(seen, count), 0.0f);
  if (visible == 0) return;
  VF most = hn::LoadU(f, scores);
  for (std::size_t i = kLanes; i < seen; i += kLanes) most = hn::Max(most, hn::LoadU(f, scores + i));
  const float before = unit.chunk.maximum[r];
  const float maximum = std::max(before, hn::GetLane(hn::MaxOfLanes(f, most)) * scale);
  const VF factor = hn::Set(f, scale), shift = hn::Set(f, maximum);
  VF total = hn::Zero(f);
  for (std::size_t i = 0; i < seen; i += kLanes) {
    const VF e = exp_below_zero(hn::MulSub(hn::LoadU(f, scores + i), factor, shift));
    hn::StoreU(e, f, scores + i);
    total = hn::Add(total, e);
  }
  float& sum = unit.chunk.total[r];
  if (maximum != before) {
    const float decay = exp_of(before - maximum);
    sum *= decay;
    scale_by(unit.chunk.sums + r * unit.width, unit.width, decay);
    unit.chunk.maximum[r] = maximum;
  }
  sum += hn::GetLane(hn::SumOfLanes(f, total));
}

// sums[m] += sum over keys of scores[m] * values, for M rows and C steps of the head.
template <std::size_t M, std::size_t C, class T>
HWY_INLINE void weigh_tile(const float* HWY_RESTRICT scores, const T* HWY_RESTRICT values, std::size_t stride,
                           std::size_t count, float* HWY_RESTRICT sums, std::size_t width) {
  const F f;
  VF acc[M * C * 2];
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t c = 0; c < 2 * C; ++c) acc[m * 2 * C + c] = hn::LoadU(f, sums + m * width + c * kLanes);
  }
  for (std::size_t j = 0; j < count; ++j) {
    VF vs[2 * C];
    for (std::size_t c = 0; c < C; ++c) {
      const Pair pair = load_pair(values + j * stride + c * kStep);
      vs[2 * c] = pair.a;
      vs[2 * c + 1] = pair.b;
    }
    for (std::size_t m = 0; m < M; ++m) {
      const VF weight = keep(hn::Set(f, scores[m * kKeys + j]));
      for (std::size_t c = 0; c < 2 * C; ++c)
        acc[m * 2 * C + c] = hn::MulAdd(weight, vs[c], acc[m * 2 * C + c]);
    }
  }
  for (std::size_t m = 0; m < M; ++m) {
    for (std::size_t c = 0; c < 2 * C; ++c) hn::StoreU(acc[m * 2 * C + c], f, sums + m * width + c * kLanes);
  }
}

template <std::size_t M, class T>
void weigh_rows(const float* scores, const T* values, std::size_t stride, std::size_t count, float* sums,
                std::size_t width) {
  constexpr std::size_t kWide = M == 1 ? 4 : M <= 3 || HWY_MAX_BYTES == 64 ? 2 : 1;
  std::size_t c = 0;
  for (; c + kWide * kStep <= width; c += kWide * kStep) {
    weigh_tile<M, kWide>(scores, values + c, stride, count, sums + c, width);
  }
  for (; c < width; c += kStep) weigh_tile<M, 1>(scores, values + c, stride, count, sums + c, width);
}

// Adds `count` values that lie `stride` apart, weighted with the scores from `at` on.
template <class T>
void weigh(const Unit& unit, const T* values, std::size_t stride, std::size_t at, std::size_t count) {
  using Function = void (*)(const float*, const T*, std::size_t, std::size_t, float*, std::size_t);
  static constexpr Function kFunctions[] = {weigh_rows<1, T>, weigh_rows<2, T>, weigh_rows<3, T>,
                                            weigh_rows<4, T>, weigh_rows<5, T>, weigh_rows<6, T>};
  for (std::size_t r = 0; r < unit.rows; r += kGroup) {
    kFunctions[std::min(kGroup, unit.rows - r) - 1](unit.scores + r * kKeys + at, values, stride, count,
                                                    unit.chunk.sums + r * unit.width, unit.width);
  }
}

// Calls body(first token, its offset from begin, count) for runs of tokens [begin, end) that lie evenly in memory.
template <class Body>
HWY_INLINE void for_runs(const Attention& a, std::size_t begin, std::size_t end, const Body& body) {
  for (std::size_t t = begin; t < end;) {
    const std::size_t run =
        a.blocks == nullptr ? end - t : std::min(end - t, a.block_size - t % a.block_size);
    body(t, t - begin, run);
    t += run;
  }
}

// Adds the keys [begin, end), at most kKeys and within one chunk, to unit.chunk.
template <class T>
void attend_block(const Attention& a, std::size_t row_begin, const Unit& unit, std::size_t begin,
                  std::size_t end) {
  const std::size_t count = end - begin;
  const bool whole = a.head_dim % kStep == 0;
  if (!whole) {  // Widened and filled up to whole steps once for all rows.
    for (std::size_t j = 0; j < count; ++j) {
      pack_row(token<T>(a, a.values, a.value_stride, begin + j), a.head_dim, 0, 1,
               unit.values + j * unit.width);
    }
  }
  if (a.blocks == nullptr) {
    score_columns<T>(a, unit, begin, count);
  } else if (whole) {
    for_runs(a, begin, end, [&](std::size_t t, std::size_t at, std::size_t run) {
      score(unit, token<T>(a, a.keys, a.key_stride, t), a.key_stride, a.head_dim, at, run);
    });
  } else {
    for (std::size_t j = 0; j < count; ++j) {
      pack_row(token<T>(a, a.keys, a.key_stride, begin + j), a.head_dim, 0, 1, unit.keys + j * unit.width);
    }
    score<float>(unit, unit.keys, unit.width, unit.width, 0, count);
  }
  for (std::size_t r = 0; r < unit.rows; ++r) {
    std::size_t visible = count;
    if (a.causal) {
      const std::size_t seen = a.length - a.rows + row_begin + r / a.group + 1;
      visible = seen <= begin ? 0 : std::min(count, seen - begin);
    }
    soften(unit, r, a.scale, count, visible);
  }
  if (whole) {
    for_runs(a, begin, end, [&](std::size_t t, std::size_t at, std::size_t run) {
      weigh(unit, token<T>(a, a.values, a.value_stride, t), a.value_stride, at, run);
    });
  } else {
    weigh<float>(unit, unit.values, unit.width, 0, count);
  }
}

std::size_t VisibleKeys(const Attention& a, std::size_t row_end) {
  return a.causal ? a.length - a.rows + row_end : a.length;
}

// unit.chunk becomes the state of chunk number `chunk`.
template <class T>
void chunk_state(const Attention& a, std::size_t row_begin, std::size_t keys, const Unit& unit,
                 std::size_t chunk) {
  reset(unit.chunk, unit.rows, unit.width);
  const std::size_t end = std::min(keys, (chunk + 1) * kChunk);
  for (std::size_t t = chunk * kChunk; t < end; t += kKeys) {
    attend_block<T>(a, row_begin, unit, t, std::min(end, t + kKeys));
  }
}

// Adds the keys of `chunk` to those of `all`.
void merge(const State& all, const State& chunk, std::size_t rows, std::size_t width) {
  const F f;
  for (std::size_t r = 0; r < rows; ++r) {
    const float maximum = std::max(all.maximum[r], chunk.maximum[r]);
    const float old_factor = exp_of(all.maximum[r] - maximum),
                new_factor = exp_of(chunk.maximum[r] - maximum);
    all.maximum[r] = maximum;
    all.total[r] = all.total[r] * old_factor + chunk.total[r] * new_factor;
    const VF old_factors = hn::Set(f, old_factor), new_factors = hn::Set(f, new_factor);
    for (std::size_t i = r * width; i < (r + 1) * width; i += kLanes) {
      const VF fresh = hn::Mul(hn::LoadU(f, chunk.sums + i), new_factors);
      hn::StoreU(hn::MulAdd(hn::LoadU(f, all.sums + i), old_factors, fresh), f, all.sums + i);
    }
  }
}

template <class T>
void finish(const Attention& a, std::size_t row_begin, const Unit& unit) {
  const F f;
  for (std::size_t r = 0; r < unit.rows; ++r) {
    T* out = static_cast<T*>(a.out) + (row_begin + r / a.group) * a.out_row_stride + r % a.group * a.head_dim;
    const VF total = hn::Set(f, unit.all.total[r]);
    for (std::size_t i = 0; i < a.head_dim; i += kStep) {
      const Pair sums = load_pair(unit.all.sums + r * unit.width + i);
      const Pair mean{hn::Div(sums.a, total), hn::Div(sums.b, total)};
      if (i + kStep <= a.head_dim) {
        store_pair(mean, out + i);
      } else {
        store_some(mean, out + i, a.head_dim - i);
      }
    }
  }
}

template <class T>
void attend_typed(const Attention& a, std::size_t row_begin, std::size_t row_end, float* scratch) {
  const Unit unit = make_unit(a, row_end - row_begin, scratch);
  pack_queries<T>(a, row_begin, unit);
  reset(unit.all, unit.rows, unit.width);
  const std::size_t keys = VisibleKeys(a, row_end);
  for (std::size_t chunk = 0; chunk * kChunk < keys; ++chunk) {
    chunk_state<T>(a, row_begin, keys, unit, chunk);
    merge(unit.all, unit.chunk, unit.rows, unit.width);
  }
  finish<T>(a, row_begin, unit);
}

template <class T>
void attend_chunk_typed(const Attention& a, std::size_t row_begin, std::size_t row_end, std::size_t chunk,
                        float* scratch, float* partial) {
  Unit unit = make_unit(a, row_end - row_begin, scratch);
  unit.chunk = state_at(partial, unit.rows);
  pack_queries<T>(a, row_begin, unit);
  chunk_state<T>(a, row_begin, VisibleKeys(a, row_end), unit, chunk);
}

template <class T>
void merge_chunks_typed(const Attention& a, std::size_t row_begin, std::size_t row_end, std::size_t chunks,
                        float* partials, float* scratch) {
  const Unit unit = make_unit(a, row_end - row_begin, scratch);
  reset(unit.all, unit.rows, unit.width);
  for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
    merge(unit.all, state_at(partials + chunk * state_size(unit.rows, unit.width), unit.rows), unit.rows,
          unit.width);
  }
  finish<T>(a, row_begin, unit);
}

void Attend(const Attention& a, std::size_t row_begin, std::size_t row_end, float* scratch) {
  with_type(a.type, [&](auto t) { attend_typed<decltype(t)>(a, row_begin, row_end, scratch); });
}

void AttendChunk(const Attention& a, std::size_t row_begin, std::size_t row_end, std::size_t chunk,
                 float* scratch, float* partial) {
  with_type(a.type,
            [&](auto t) { attend_chunk_typed<decltype(t)>(a, row_begin, row_end, chunk, scratch, partial); });
}

void MergeChunks(const Attention& a, std::size_t row_begin, std::size_t row_end, std::size_t chunks,
                 float* partials, float* scratch) {
  with_type(a.type, [&](auto t) {
    merge_chunks_typed<decltype(t)>(a, row_begin, row_end, chunks, partials, scratch);
  });
}

}  // namespace
}  // namespace tte::kernels::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tte::kernels::simd {

HWY_EXPORT(ScratchSize);
HWY_EXPORT(PartialSize);
HWY_EXPORT(VisibleKeys);
HWY_EXPORT(Attend);
HWY_EXPORT(AttendChunk);
HWY_EXPORT(MergeChunks);

std::size_t visible_keys(const Attention& attention, std::size_t row_end) {
  return HWY_DYNAMIC_DISPATCH(VisibleKeys)(attention, row_end);
}
std::size_t attention_scratch_size(const Attention& attention, std::size_t rows) {
  return HWY_DYNAMIC_DISPATCH(ScratchSize)(attention, rows);
}
std::size_t attention_partial_size(const Attention& attention, std::size_t rows) {
  return HWY_DYNAMIC_DISPATCH(PartialSize)(attention, rows);
}
void attend(const Attention& attention, std::size_t row_begin, std::size_t row_end, float* scratch) {
  HWY_DYNAMIC_DISPATCH(Attend)(attention, row_begin, row_end, scratch);
}
void attend_chunk(const Attention& attention, std::size_t row_begin, std::size_t row_end, std::size_t chunk,
                  float* scratch, float* partial) {
  HWY_DYNAMIC_DISPATCH(AttendChunk)(attention, row_begin, row_end, chunk, scratch, partial);
}
void merge_chunks(const Attention& attention, std::size_t row_begin, std::size_t row_end, std::size_t chunks,
                  float* partials, float* scratch) {
  HWY_DYNAMIC_DISPATCH(MergeChunks)(attention, row_begin, row_end, chunks, partials, scratch);
}

}  // namespace tte::kernels::simd
#endif
