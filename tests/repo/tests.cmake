add_test(NAME repo.layers COMMAND ${PROJECT_SOURCE_DIR}/tests/check_layers.sh)
add_test(NAME repo.layers_violations
  COMMAND ${PROJECT_SOURCE_DIR}/tests/repo/check_layers_test.sh)
add_test(NAME repo.format COMMAND ${PROJECT_SOURCE_DIR}/tests/check_format.sh)
set_tests_properties(repo.layers repo.layers_violations repo.format PROPERTIES
  LABELS repo SKIP_RETURN_CODE 77)
