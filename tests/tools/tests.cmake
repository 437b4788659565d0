sluice_test(tools stop_filter sluice::tools)
sluice_test(tools token_ids sluice::tools)
sluice_test(tools convert_options sluice::tools)
sluice_test(tools generate_options sluice::tools)
sluice_test(tools progress_bar sluice::tools)
sluice_test(tools output sluice::tools)
sluice_test(tools run_report sluice::tools)
sluice_test(tools logits_dump sluice::tools)
sluice_test(tools scratch_logits sluice::tools)
sluice_test(tools evaluate_options sluice::tools)
sluice_test(tools budget_sweep sluice::tools)
sluice_test(tools svg_chart sluice::tools)
sluice_test(tools calibrate_options sluice::tools)

# The program as a user meets it: exit statuses, messages, what goes where.
add_test(NAME tools.cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/cli_test.sh $<TARGET_FILE:stream-generate>
          ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3)
set_tests_properties(tools.cli PROPERTIES LABELS tools TIMEOUT 300)
add_test(NAME tools.evaluate_cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/evaluate_cli_test.sh $<TARGET_FILE:stream-evaluate>
          ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3
          ${PROJECT_SOURCE_DIR}/tests/data/tokenizers/small_qwen2)
add_test(NAME tools.plan_cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/plan_cli_test.sh $<TARGET_FILE:stream-plan>
          ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3
          ${PROJECT_SOURCE_DIR}/tests/data/goldens/qwen3 $<TARGET_FILE:stream-generate>)
set_tests_properties(tools.evaluate_cli tools.plan_cli PROPERTIES LABELS tools TIMEOUT 300)
add_test(NAME tools.repack_cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/repack_cli_test.sh $<TARGET_FILE:stream-repack>
          $<TARGET_FILE:stream-generate> ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3)
set_tests_properties(tools.cli tools.repack_cli PROPERTIES LABELS tools TIMEOUT 300)
add_test(NAME tools.calibrate
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/calibrate_test.sh $<TARGET_FILE:stream-calibrate>
          $<TARGET_FILE:stream-generate> ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3)
set_tests_properties(tools.calibrate PROPERTIES LABELS tools TIMEOUT 300)

# Whole runs of the program.
foreach(unit identity memory)
  sluice_test(tools ${unit} sluice::model nlohmann_json::nlohmann_json)
  target_compile_definitions(tools_${unit}_test PRIVATE
    SLUICE_GENERATE="$<TARGET_FILE:stream-generate>"
    SLUICE_DEMO_MODEL="${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3")
  add_dependencies(tools_${unit}_test stream-generate)
endforeach()

# Killed at random moments, stream-convert goes on and ends with the same bytes.
add_test(NAME tools.convert_kill
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/convert_kill_test.sh $<TARGET_FILE:stream-convert>
          ${PROJECT_SOURCE_DIR}/tests/data/goldens/qwen3_moe)
set_tests_properties(tools.convert_kill PROPERTIES LABELS tools TIMEOUT 300)

sluice_test(tools convert_memory sluice::model)
target_compile_definitions(tools_convert_memory_test PRIVATE
  SLUICE_CONVERT="$<TARGET_FILE:stream-convert>")
add_dependencies(tools_convert_memory_test stream-convert)
