# proto/*.proto compiled by protobuf-c into the static library mr_proto; include as "NAME.pb-c.h". The same texts are
# embedded as C strings (proto_texts.h), because the plugin hands them to the host.
find_program(PROTOC_C NAMES protoc-c REQUIRED)
find_program(AWK NAMES awk mawk gawk REQUIRED)
set(proto_out ${PROJECT_BINARY_DIR}/proto)
file(MAKE_DIRECTORY ${proto_out}/proto2)
file(GLOB proto_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/*.proto)
set(proto_sources "")
set(proto_header "/* The .proto files, whole, as NUL-terminated texts. */\n#ifndef PROTO_TEXTS_H\n#define PROTO_TEXTS_H\n")
foreach(proto IN LISTS proto_files)
  get_filename_component(stem ${proto} NAME_WE)
  add_custom_command(
    OUTPUT ${proto_out}/${stem}.pb-c.c ${proto_out}/${stem}.pb-c.h
    COMMAND ${AWK} -f ${PROJECT_SOURCE_DIR}/cmake/proto2.awk ${proto} > ${proto_out}/proto2/${stem}.proto
    COMMAND ${PROTOC_C} --c_out=${proto_out} --proto_path=${proto_out}/proto2 ${proto_out}/proto2/${stem}.proto
    DEPENDS ${proto} ${PROJECT_SOURCE_DIR}/cmake/proto2.awk
    VERBATIM)
  list(APPEND proto_sources ${proto_out}/${stem}.pb-c.c)
  string(APPEND proto_header "extern const char mr_proto_text_${stem}[];\n")
endforeach()
file(CONFIGURE OUTPUT ${proto_out}/proto_texts.h CONTENT "${proto_header}#endif\n" @ONLY)
add_custom_command(
  OUTPUT ${proto_out}/proto_texts.c
  COMMAND ${CMAKE_COMMAND} -DOUT=${proto_out}/proto_texts.c "-DFILES=${proto_files}" -P
          ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  DEPENDS ${proto_files} ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
  VERBATIM)
add_library(mr_proto STATIC ${proto_sources} ${proto_out}/proto_texts.c)
target_compile_options(mr_proto PRIVATE -w)
target_include_directories(mr_proto SYSTEM PUBLIC ${proto_out})
target_link_libraries(mr_proto PUBLIC PkgConfig::PROTOBUFC)
