sluice_test(cache slab sluice::cache)
sluice_test(cache policy sluice::cache)
sluice_test(cache expert_cache sluice::cache)
sluice_test(cache expert_cache_model sluice::cache)
