# SPDX-License-Identifier: GPL-2.0-only
# suite: the page of minivmx matrix, used in a browser: mouse, touch, keyboard, phone, dark, paper
# kernel: none
# carry: browser
# timeout: 240
test-user/browser/check_page.py build/user/minivmx
