// TurboQuant codes and scales of a row of values over Lanes.
#pragma once

#include <iterator>

#include "kernels/lanes.h"
#include "kernels/lanes_codebook.h"
#include "kernels/lanes_elementwise.h"

namespace sluice::kernels {
namespace {

// The codes of 16 values of a group, by halving the range of edges that remain: as the scaled edges
// ascend, the number of those at or below a value is where the search ends.
template <uint32_t kLength>
class NearestCodes {
 public:
  NearestCodes(const Encoding& encoding, float scale) {
    store(edges_, load_first(encoding.edges, kLength - 1) * splat(scale));
  }
  Integers of(Lanes values) const {
    Integers codes = splat_integer(0);
    if constexpr (kLength == 3) {
      for (uint32_t i = 0; i < 2; ++i) codes = add_where(values, splat(edges_[i]), codes, 1);
    } else {
      codes = add_where(values, splat(edges_[kLength / 2 - 1]), codes, kLength / 2);
      for (int32_t half = kLength / 4; half > 0; half /= 2) {
        codes = add_where(values, look_up(edges_, codes + splat_integer(half - 1)), codes, half);
      }
    }
    return codes;
  }

 private:
  // codes + number where value ≥ edge.
  static Integers add_where(Lanes values, Lanes edges, Integers codes, int32_t number) {
    return add_where_at_least(values, edges, codes, splat_integer(number));
  }

  float edges_[kLanes];
};

template <>
class NearestCodes<256> {
 public:
  NearestCodes(const Encoding& encoding, float scale)
      : factor_(splat(0.5f / (encoding.step * scale))) {}
  Integers of(Lanes values) const {
    const Lanes places = values * factor_ + splat(127.5f);
    return round_to_integers(minimum(maximum(places, splat(0)), splat(255)));
  }

 private:
  Lanes factor_;
};

inline Lanes magnitude(Lanes a) { return from_bits(bits_of(a) & splat_integer(0x7fffffff)); }

// ScaleRule::search. Codes of magnitudes, by the same halving: the codebook is symmetric.
template <uint32_t kLength>
class ScaleSearch {
 public:
  explicit ScaleSearch(const Encoding& encoding) : group_(encoding.group) {
    constexpr uint32_t kFirst = kLength / 2;  // the lowest centroid that is not negative
    const Lanes edges = load_first(encoding.edges + kFirst, kLength - 1 - kFirst);
    for (size_t f = 0; f < std::size(kScaleFactors); ++f) {
      store(edges_[f], edges * splat(kScaleFactors[f]));
    }
    store(centroids_, load_first(encoding.centroids + kFirst, kLength - kFirst));
  }
  float of(const float* values, float rms) const {
    const Lanes inverse = splat(1 / rms);
    float magnitudes[kMaxGroup];
    for (size_t i = 0; i < group_; i += kLanes) {
      store(magnitudes + i, magnitude(load(values + i) * inverse));
    }
    float best_score = 0;
    float best = 1;
    for (const float* edges : edges_) {
      const Lanes middle = splat(edges[kMagnitudes / 2 - 1]);
      Lanes products = splat(0);
      Lanes squares = splat(0);
      for (size_t i = 0; i < group_; i += kLanes) {
        const Lanes a = load(magnitudes + i);
        const Lanes centroids = look_up(centroids_, codes_of(a, middle, edges));
        products = fma(a, centroids, products);
        squares = fma(centroids, centroids, squares);
      }
      const float product = sum(products);
      const float ratio = product / sum(squares);
      const float score = product * ratio;
      if (score > best_score) {
        best_score = score;
        best = ratio;
      }
    }
    return rms * best;
  }

 private:
  static constexpr size_t kMaxGroup = 128;
  static constexpr int32_t kMagnitudes = kLength == 3 ? 2 : kLength / 2;
  static Integers codes_of(Lanes magnitudes, Lanes middle, const float* edges) {
    Integers codes = splat_integer(0);
    codes = add_where_at_least(magnitudes, middle, codes, splat_integer(kMagnitudes / 2));
    for (int32_t half = kMagnitudes / 4; half > 0; half /= 2) {
      const Lanes edge = look_up(edges, codes + splat_integer(half - 1));
      codes = add_where_at_least(magnitudes, edge, codes, splat_integer(half));
    }
    return codes;
  }

  float edges_[std::size(kScaleFactors)][kLanes];
  float centroids_[kLanes];
  size_t group_;
};

template <>
class ScaleSearch<256> {
 public:
  explicit ScaleSearch(const Encoding& encoding)
      : group_(encoding.group), outermost_(255 * encoding.step) {}
  float of(const float* values, float) const {
    Lanes largest = splat(0);
    for (size_t i = 0; i < group_; i += kLanes) {
      largest = maximum(magnitude(load(values + i)), largest);
    }
    return largest_lane(largest) / outermost_;
  }

 private:
  size_t group_;
  float outermost_;
};

// To nearest even.
inline uint16_t f16_of(float value) {
  const __m128i half =
      _mm_cvtps_ph(_mm_set_ss(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return static_cast<uint16_t>(_mm_extract_epi16(half, 0));
}
inline float float_of(uint16_t half) {
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
}

template <uint32_t kLength, bool kErrors>
inline bool encode_groups(const Encoding& encoding, const float* values, uint8_t* codes,
                          std::byte* scales, size_t scale_stride, EncodingError* error) {
  Codebook codebook{};
  codebook.step = encoding.step;
  if constexpr (kLength <= kLanes) {
    store_first(codebook.values, load_first(encoding.centroids, kLength), kLength);
  }
  const Centroids<kLength> centroids(codebook);
  const ScaleSearch<kLength> search(encoding);
  for (size_t begin = 0; begin < encoding.cols; begin += encoding.group, scales += scale_stride) {
    const size_t end = begin + encoding.group;
    Lanes squares = splat(0);
    for (size_t i = begin; i < end; i += kLanes) {
      const Lanes a = load(values + i);
      squares = squares + a * a;
    }
    const float size = sum(squares);
    const __m128 mean = _mm_set_ss(size / static_cast<float>(encoding.group));
    float wanted = _mm_cvtss_f32(_mm_sqrt_ss(mean));
    if (!(float_of(f16_of(wanted)) <= kLargestF16)) return false;  // infinite, or not a number
    wanted = wanted < kSmallestRms ? kSmallestRms : wanted;
    if (encoding.rule == ScaleRule::search) {
      wanted = search.of(values + begin, wanted);
      wanted = wanted < kSmallestRms ? kSmallestRms : wanted;
      wanted = wanted < kLargestF16 ? wanted : kLargestF16;
    }
    const uint16_t half = f16_of(wanted);
    __builtin_memcpy(scales, &half, sizeof(half));
    const float scale = float_of(half);
    const NearestCodes<kLength> nearest(encoding, scale);
    Lanes errors = splat(0);
    for (size_t i = begin; i < end; i += kLanes) {
      const Lanes a = load(values + i);
      const Integers code = nearest.of(a);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i), narrow_to_bytes(code));
      if constexpr (kErrors) {
        const Lanes difference = a - centroids.of(code) * splat(scale);
        errors = errors + difference * difference;
      }
    }
    if constexpr (kErrors) {
      error->error += static_cast<double>(sum(errors));
      error->size += static_cast<double>(size);
    }
  }
  return true;
}

template <uint32_t kLength>
inline bool encode_of(const Encoding& encoding, const float* values, uint8_t* codes,
                      std::byte* scales, size_t scale_stride, EncodingError* error) {
  return error == nullptr
             ? encode_groups<kLength, false>(encoding, values, codes, scales, scale_stride, nullptr)
             : encode_groups<kLength, true>(encoding, values, codes, scales, scale_stride, error);
}

inline bool encode(const Encoding& encoding, const float* values, uint8_t* codes, std::byte* scales,
                   size_t scale_stride, EncodingError* error) {
  switch (encoding.length) {
    case 3:
      return encode_of<3>(encoding, values, codes, scales, scale_stride, error);
    case 4:
      return encode_of<4>(encoding, values, codes, scales, scale_stride, error);
    case 8:
      return encode_of<8>(encoding, values, codes, scales, scale_stride, error);
    case 16:
      return encode_of<16>(encoding, values, codes, scales, scale_stride, error);
    default:
      return encode_of<256>(encoding, values, codes, scales, scale_stride, error);
  }
}

}  // namespace
}  // namespace sluice::kernels
