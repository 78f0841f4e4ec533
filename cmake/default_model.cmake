# The model that is compiled in: models/*.gguf (the first by name), or another through -DMR_DEFAULT_MODEL=FILE; none with
# -DMR_DEFAULT_MODEL=OFF or where there is no such file.
set(MR_DEFAULT_MODEL "" CACHE STRING "GGUF file to compile in; OFF = none, empty = the one in models/")
set(default_model "${MR_DEFAULT_MODEL}")
if(default_model STREQUAL "")
  file(GLOB shipped_models CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/models/*.gguf)
  if(shipped_models)
    list(GET shipped_models 0 default_model)
  endif()
endif()
if(default_model AND EXISTS "${default_model}")
  set_source_files_properties(src/model/default_model.c PROPERTIES
    COMPILE_DEFINITIONS "MR_DEFAULT_MODEL_PATH=\"${default_model}\"" OBJECT_DEPENDS "${default_model}")
elseif(default_model)
  message(FATAL_ERROR "MR_DEFAULT_MODEL: there is no file ${default_model}")
else()
  message(STATUS "no model is compiled in")
endif()
