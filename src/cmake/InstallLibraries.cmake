# Run by `cmake --install`: copies the libraries that come along, and the licences of everything that is not aimerge's own.
# In: AIMERGE_SOURCE_TOOLS, AIMERGE_PYTHON (of launch/setup.sh), AIMERGE_WORK (a folder of the build), AIMERGE_PROGRAM, AIMERGE_LIBRARIES, AIMERGE_BUNDLED (patterns of names),
# AIMERGE_WHEELS (the folder of Python packages)
# file(INSTALL) minds DESTDIR itself.
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES "${AIMERGE_PROGRAM}" LIBRARIES ${AIMERGE_LIBRARIES}
  PRE_INCLUDE_REGEXES ${AIMERGE_BUNDLED} PRE_EXCLUDE_REGEXES ".*"
  RESOLVED_DEPENDENCIES_VAR _libraries)
foreach(_library IN LISTS _libraries)
  file(INSTALL "${_library}" DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/aimerge" FOLLOW_SYMLINK_CHAIN)
  # A library of the distribution has its licence in its package.
  file(REAL_PATH "${_library}" _file)
  execute_process(COMMAND dpkg-query -S "${_file}" OUTPUT_VARIABLE _package ERROR_QUIET)
  if(_package MATCHES "^([^:]+)")
    file(INSTALL "/usr/share/doc/${CMAKE_MATCH_1}/copyright" DESTINATION "${CMAKE_INSTALL_PREFIX}/share/doc/aimerge/licences/${CMAKE_MATCH_1}" FOLLOW_SYMLINK_CHAIN)
  endif()
endforeach()
# The JavaScript of a report's interactive figure.
file(MAKE_DIRECTORY "${AIMERGE_WORK}")
execute_process(COMMAND "${AIMERGE_PYTHON}" -B -c "import interactive_figure; print(interactive_figure.vega_embed())"
  WORKING_DIRECTORY "${AIMERGE_SOURCE_TOOLS}" OUTPUT_FILE "${AIMERGE_WORK}/vega_embed.js" ERROR_VARIABLE _error RESULT_VARIABLE _status)
if(_status EQUAL 0)
  file(INSTALL "${AIMERGE_WORK}/vega_embed.js" DESTINATION "${CMAKE_INSTALL_PREFIX}/share/aimerge/tools")
else()
  message(WARNING "reports of the installation have no interactive figure: ${_error}")
endif()
foreach(_wheel torch nvidia_cuda_runtime nvidia_cuda_cupti vl_convert_python)
  file(GLOB _licences "${AIMERGE_WHEELS}/${_wheel}-*.dist-info/licenses")
  if(_licences)
    file(INSTALL ${_licences} DESTINATION "${CMAKE_INSTALL_PREFIX}/share/doc/aimerge/licences/${_wheel}")
  endif()
endforeach()
