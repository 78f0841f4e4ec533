# What is shipped: the plugin libplugin_runner_mistral.so and the program mistral-runner.
include(GNUInstallDirs)
set(CMAKE_INSTALL_DOCDIR ${CMAKE_INSTALL_DATADIR}/doc/mistral-runner)
if(EXISTS ${PROJECT_SOURCE_DIR}/src/plugin/entry.c)
  add_library(plugin_runner_mistral SHARED src/plugin/entry.c)
  target_link_libraries(plugin_runner_mistral PRIVATE mr_plugin)
  target_link_options(plugin_runner_mistral PRIVATE -Wl,--exclude-libs,ALL -Wl,-z,relro,-z,now)
  if(NOT MR_SANITIZE) # clang leaves the sanitizers' symbols to the program that loads the library
    target_link_options(plugin_runner_mistral PRIVATE -Wl,--no-undefined)
  endif()
  set_target_properties(plugin_runner_mistral PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  install(TARGETS plugin_runner_mistral LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/mistral-runner)
endif()
file(GLOB cli_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cli/*.c)
if(cli_sources)
  add_executable(mistral-runner ${cli_sources})
  pkg_check_modules(LIBEDIT REQUIRED IMPORTED_TARGET libedit)
  target_link_libraries(mistral-runner PRIVATE mr_service PkgConfig::LIBEDIT ${CMAKE_DL_LIBS})
  target_include_directories(mistral-runner PRIVATE ${PROJECT_SOURCE_DIR}/cli)
  target_compile_definitions(mistral-runner PRIVATE MR_VERSION="${PROJECT_VERSION}" MR_LIBDIR="${CMAKE_INSTALL_LIBDIR}")
  set_target_properties(mistral-runner PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
  install(TARGETS mistral-runner RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# What goes with them.
set(packaging ${PROJECT_SOURCE_DIR}/packaging)
configure_file(${packaging}/mistral-runner.pc.in ${PROJECT_BINARY_DIR}/mistral-runner.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mistral-runner.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${packaging}/mistral-runner.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${packaging}/mistral-runner.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
        RENAME mistral-runner)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
include(${packaging}/cpack.cmake)

# Not shipped, built on demand: the speed of the matrix products.
add_executable(bench_matrix EXCLUDE_FROM_ALL ${PROJECT_SOURCE_DIR}/bench/bench_matrix.c)
target_link_libraries(bench_matrix PRIVATE mr_compute)
