// What a device implements, and its table: included by cpu_kernels.h and cuda_kernels.h, each inside its namespace,
// which has kCacheBlockSize and, null where there is no such function, kPackMatrix, kReadsDeviceLengths and kRecord.
// kernels.h, recording.h and packed_weight.h state what each function does; dispatch.cpp and packed_weight.cpp have
// checked its arguments.

Linear linear;
LinearFloat linear_float;
decltype(kernels::rms_norm) rms_norm;
decltype(kernels::add_rms_norm) add_rms_norm;
decltype(kernels::layer_norm) layer_norm;
decltype(kernels::silu_mul) silu_mul;
decltype(kernels::activate) activate;
decltype(kernels::gated) gated;
decltype(kernels::rope_) rope;
decltype(kernels::attention) attention;
decltype(kernels::store_kv) store_kv;
decltype(kernels::paged_attention) paged_attention;
decltype(kernels::causal_conv_silu) causal_conv_silu;
decltype(kernels::gated_delta_rule) gated_delta_rule;
decltype(kernels::broadcast) broadcast;
decltype(kernels::reduce_sum) reduce_sum;
PackRounded pack_rounded;
decltype(kernels::packed_weight) packed_weight;

inline constexpr KernelTable kTable{
    .linear = linear,
    .linear_float = linear_float,
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .layer_norm = layer_norm,
    .silu_mul = silu_mul,
    .activate = activate,
    .gated = gated,
    .rope = rope,
    .attention = attention,
    .store_kv = store_kv,
    .paged_attention = paged_attention,
    .reads_device_lengths = kReadsDeviceLengths,
    .record = kRecord,
    .causal_conv_silu = causal_conv_silu,
    .gated_delta_rule = gated_delta_rule,
    .broadcast = broadcast,
    .reduce_sum = reduce_sum,
    .pack_matrix = kPackMatrix,
    .pack_rounded = pack_rounded,
    .packed_weight = packed_weight,
    .cache_block_size = kCacheBlockSize,
};
