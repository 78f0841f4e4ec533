# mr_embed_kernels(TARGET): compiles src/compute/cuda/*.cu by nvcc, each to a fatbin with code for sm_80, sm_89 and sm_90 and
# PTX for later chips (*_wgmma.cu: with code for sm_90a alone), and embeds them in TARGET. nvcc is looked for in PATH, in
# CUDA_HOME and in /usr/local/cuda; nothing else of CUDA is needed, and nothing of it is linked.
function(mr_embed_kernels target)
  find_program(NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin /usr/local/cuda/bin)
  if(NOT NVCC)
    message(FATAL_ERROR "MR_CUDA: there is no nvcc in PATH, in CUDA_HOME or in /usr/local/cuda")
  endif()
  set(source_dir ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/..)
  set(out ${CMAKE_BINARY_DIR}/cuda)
  file(MAKE_DIRECTORY ${out})
  file(GLOB kernels CONFIGURE_DEPENDS ${source_dir}/src/compute/cuda/*.cu)
  file(GLOB headers CONFIGURE_DEPENDS ${source_dir}/src/compute/cuda/*.cuh ${source_dir}/src/compute/cuda/*.h)
  set(MR_CUDA_FLAGS "" CACHE STRING "More options for nvcc")
  separate_arguments(flags NATIVE_COMMAND "${MR_CUDA_FLAGS}")
  set(fatbins "")
  set(data "")
  set(table "")
  foreach(kernel IN LISTS kernels)
    get_filename_component(name ${kernel} NAME_WE)
    set(targets -gencode arch=compute_80,code=sm_80 -gencode arch=compute_89,code=sm_89
                -gencode "arch=compute_90,code=[sm_90,compute_90]")
    set(only 0)
    if(name MATCHES "_wgmma$")
      set(targets -gencode arch=compute_90a,code=sm_90a)
      set(only 90)
    endif()
    add_custom_command(
      OUTPUT ${out}/${name}.fatbin
      COMMAND ${NVCC} -fatbin -std=c++17 -O3 -Werror all-warnings -Wno-deprecated-gpu-targets -I${source_dir}/src
              ${targets} ${flags} -o ${out}/${name}.fatbin ${kernel}
      DEPENDS ${kernel} ${headers}
      COMMENT "nvcc ${name}.cu"
      VERBATIM)
    list(APPEND fatbins ${out}/${name}.fatbin)
    string(APPEND data "__asm__(\".pushsection .rodata\\n.balign 16\\n.local mr_fatbin_${name}\\nmr_fatbin_${name}:\\n\"\n"
                       "        \".incbin \\\"${out}/${name}.fatbin\\\"\\nmr_fatbin_${name}_end:\\n.popsection\\n\");\n")
    string(APPEND table "        \".quad mr_fatbin_${name}, mr_fatbin_${name}_end - mr_fatbin_${name}, ${only}\\n\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${out}/images.c @ONLY CONTENT
"/* Made by the build: the compiled kernels, and a table of them (mr_cuda_image). */
typedef int mr_cuda_images_are_assembler;
${data}__asm__(\".pushsection .data.rel.ro,\\\"aw\\\"\\n.balign 8\\n.hidden mr_cuda_images\\n.globl mr_cuda_images\\n\"
        \"mr_cuda_images:\\n\"
${table}        \".quad 0, 0, 0\\n.popsection\\n\");
")
  set_source_files_properties(${out}/images.c PROPERTIES OBJECT_DEPENDS "${fatbins}")
  target_sources(${target} PRIVATE ${out}/images.c)
  target_compile_definitions(${target} PRIVATE MR_CUDA)
endfunction()
