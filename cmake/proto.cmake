# proto/*.proto compiled by protobuf-c into the static library mr_proto; include as "NAME.pb-c.h". The same texts are
# embedded as C strings in proto_texts.h, because the plugin hands them to the host.
find_program(PROTOC_C NAMES protoc-c protoc-gen-c REQUIRED)
find_program(PROTOC_C_COMPILER NAMES protoc-c)
set(proto_out ${PROJECT_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_out})
file(GLOB proto_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.proto)
set(proto_sources "")
foreach(proto IN LISTS proto_files)
  get_filename_component(stem ${proto} NAME_WE)
  add_custom_command(
    OUTPUT ${proto_out}/${stem}.pb-c.c ${proto_out}/${stem}.pb-c.h
    COMMAND ${PROTOC_C_COMPILER} --c_out=${proto_out} --proto_path=${PROJECT_SOURCE_DIR}/proto ${proto}
    DEPENDS ${proto}
    VERBATIM)
  list(APPEND proto_sources ${proto_out}/${stem}.pb-c.c)
endforeach()
if(NOT proto_sources)
  file(WRITE ${PROJECT_BINARY_DIR}/empty_proto.c "typedef int mr_empty_proto;\n")
  set(proto_sources ${PROJECT_BINARY_DIR}/empty_proto.c)
endif()
add_library(mr_proto STATIC ${proto_sources})
target_compile_options(mr_proto PRIVATE -w)
target_include_directories(mr_proto SYSTEM PUBLIC ${proto_out})
target_link_libraries(mr_proto PUBLIC PkgConfig::PROTOBUFC)
