# Also for the tests of cache/ and stream/, which sit above the read queue.
add_library(sluice_simulated_queue STATIC io/simulated_queue.cpp)
target_include_directories(sluice_simulated_queue PUBLIC ${PROJECT_SOURCE_DIR})
target_link_libraries(sluice_simulated_queue PUBLIC sluice::io PRIVATE sluice_options)

sluice_test(io safetensors sluice::io nlohmann_json::nlohmann_json)
sluice_test(io checkpoint sluice::io)
sluice_test(io safetensors_writer sluice::io)
sluice_test(io coalesce sluice::io)
sluice_test(io direct_file sluice::io)
sluice_test(io piece_scheduler sluice_simulated_queue)
sluice_test(io read_queue sluice_simulated_queue)
sluice_test(io uring_queue sluice::io)
sluice_test(io simulated_queue sluice_simulated_queue)
