# Allocator and thread settings that make the CPU training run twice as fast (large blocks are kept, not unmapped).
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=500000000
