sluice_test(bench ceiling sluice_bench_ceiling sluice::cache)
sluice_test(bench bench_programs nlohmann_json::nlohmann_json)
target_compile_definitions(bench_bench_programs_test PRIVATE
  SLUICE_CEILINGS="$<TARGET_FILE:ceilings>" SLUICE_KERNELS="$<TARGET_FILE:kernels>")
add_dependencies(bench_bench_programs_test ceilings kernels)
sluice_test(bench routing_generator sluice_bench_routing)
sluice_test(bench replay_arm sluice_bench_replay sluice_bench_routing)
sluice_test(bench replay_figures sluice_bench_replay)
