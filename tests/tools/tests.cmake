sluice_test(tools stop_filter sluice::tools)
sluice_test(tools token_ids sluice::tools)
sluice_test(tools generate_options sluice::tools)
sluice_test(tools progress_bar sluice::tools)
sluice_test(tools output sluice::tools)
sluice_test(tools run_report sluice::tools)
sluice_test(tools logits_dump sluice::tools)

# The program as a user meets it: exit statuses, messages, what goes where.
add_test(NAME tools.cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/cli_test.sh $<TARGET_FILE:stream-generate>
          ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3)
add_test(NAME tools.repack_cli
  COMMAND ${PROJECT_SOURCE_DIR}/tests/tools/repack_cli_test.sh $<TARGET_FILE:stream-repack>
          $<TARGET_FILE:stream-generate> ${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3)
set_tests_properties(tools.cli tools.repack_cli PROPERTIES LABELS tools TIMEOUT 300)

# Whole runs of the program.
foreach(unit identity memory)
  sluice_test(tools ${unit} sluice::model nlohmann_json::nlohmann_json)
  target_compile_definitions(tools_${unit}_test PRIVATE
    SLUICE_GENERATE="$<TARGET_FILE:stream-generate>"
    SLUICE_DEMO_MODEL="${PROJECT_SOURCE_DIR}/tools/demo/sluice-demo-tq3")
  add_dependencies(tools_${unit}_test stream-generate)
endforeach()
