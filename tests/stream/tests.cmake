sluice_test(stream expert_layout sluice::stream)
sluice_test(stream expert_source sluice::stream)
sluice_test(stream expert_stream sluice::stream sluice_simulated_queue)
sluice_test(stream expert_stream_files sluice::stream)
