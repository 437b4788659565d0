foreach(unit attention codec conversion dispatch elementwise formats matmul recurrent rotation tiles
        turboquant)
  sluice_test(kernels ${unit} sluice::kernels)
endforeach()

add_test(NAME kernels.isa_objects
         COMMAND ${PROJECT_SOURCE_DIR}/tests/check_isa_objects.sh $<TARGET_OBJECTS:sluice_kernels>
         COMMAND_EXPAND_LISTS)
set_tests_properties(kernels.isa_objects PROPERTIES LABELS kernels)
