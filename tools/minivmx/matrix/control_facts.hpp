// SPDX-License-Identifier: GPL-2.0-only
//
// Facts about one control over all CPUs: for the matrix and for docs/controls.md.
#pragma once

#include "matrix.hpp"

#include <string>
#include <vector>

namespace minivmx::tool {

/// "required", "optional" or "unused", with the condition if there is one.
std::string use_text(const ControlBit &row);
/// The same of kvm_intel 6.1, whose lists negotiation follows; the tests compare the two.
std::string kvm_intel_use_text(const ControlBit &row);
/// In which of the document's lists it is.
std::string document_use_text(const ControlBit &row);

/// "12 HLT", for each exit reason that the control causes.
std::vector<std::string> exit_texts(const ControlBit &row);

/// Since which CPUs, line by line: "Core and Xeon since Ivy Bridge (2012), 40 of 54; ...". Counts
/// the real CPUs among the columns.
std::string since_text(const Matrix &matrix, const ControlBit &row);

/// "SDM Vol. 3C, 25.6.2, 26.1.3".
std::string sdm_text(const ControlBit &row);

/// "minivmx lab hlt-exiting"; empty where no case of the lab shows the control.
std::string lab_text(const ControlBit &row);

/// "Hello" of "hello".
std::string capitalized(std::string text);

} // namespace minivmx::tool
