// Tensors in, tensors out: random images are embedded, and compared by libtorch.
//
//     build/tensors <embedder folder>

#include <tte/torch.h>

#include <cstdio>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s <embedder folder>\n", argv[0]);
    return 2;
  }
  try {
    const tte::Embedder embedder = tte::Embedder::load(argv[1]);
    std::vector<tte::Input> images;
    for (int i = 0; i < 3; ++i)
      images.emplace_back(tte::torch::image(at::randint(0, 256, {56, 84, 3}, at::kByte)));
    const at::Tensor vectors = tte::torch::tensor(embedder.embed(images));  // float32 [3, dim]
    const at::Tensor cosines = at::mm(vectors, vectors.t());
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) std::printf("  %6.3f", cosines[i][j].item<float>());
      std::printf("\n");
    }
  } catch (const tte::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
