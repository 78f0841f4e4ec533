# `make deb`: a Debian package of the plugin, the program, its manual and the examples. Dependencies are read off the binaries.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME mistral-runner)
set(CPACK_PACKAGE_VENDOR "mistral-runner")
set(CPACK_PACKAGE_CONTACT "mistral-runner maintainers <maintainers@mistral-runner.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "local language models for jobworkerp-rs")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
    "Runner plugin MistralLocalLLM of jobworkerp-rs with its own inference engine, and the program mistral-runner that runs\n jobs through it on a bare machine.")
set(CPACK_DEBIAN_PACKAGE_SECTION misc)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
include(CPack)
