// SPDX-License-Identifier: GPL-2.0-only
#include "delivery.hpp"

namespace minivmx {

bool deliver_in_protected_mode(EventDelivery &s)
{
    s.not_memory = true;
    return false;
}

} // namespace minivmx
