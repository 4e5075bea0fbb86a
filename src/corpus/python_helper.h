#pragma once
// A script of src/tools that answers messages; the first byte of an answer says what it is (src/tools/helper_messages.py).

#include "aimerge/core/helper_process.h"

#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

class PythonHelper {
public:
    /// Starts the script and waits until it is ready. @param package that the script needs, for messages
    /// @throws InputError about its input; RuntimeFault when it cannot be started
    PythonHelper(const std::string& script, const std::vector<std::string>& arguments, const std::string& package);

    /// What the script answers.
    /// @throws InputError about its input, RuntimeFault about its installation, as the script says
    std::string request(std::string_view message);

private:
    std::string contentOf(std::string answer) const;

    std::string script_, hint_;
    HelperProcess process_;
};

}  // namespace aimerge
